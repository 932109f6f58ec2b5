"""Hooks, in the order in which `settings.py` names them: parameters, tracking, job.

Kedro calls the last one first: the job takes its lock before a run of MLflow is opened.
"""
