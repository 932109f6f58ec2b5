"""Hooks, in the order in which `settings.py` names them.

Kedro calls the last one first: the job takes its lock, the model in use is found, what a run
reads is checked, before a run of MLflow is opened.
"""
