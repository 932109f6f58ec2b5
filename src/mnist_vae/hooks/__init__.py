"""Hooks, in an order that `settings.py` gives them.

Kedro calls the last one first: the job takes its lock before a run of MLflow is opened.
"""
