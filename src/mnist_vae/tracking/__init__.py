"""Tracking in MLflow: its settings, a run of it, and the registered model. No Kedro.

MLflow is imported inside function bodies: only the environments that have an `mlflow.yml` do so.
"""
