"""Pipelines, a folder a stage: `nodes.py` holds pure functions, `pipeline.py` their wiring."""
