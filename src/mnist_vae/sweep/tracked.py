"""The runs of a sweep in MLflow: each a run of its own, where those of the project are."""

from __future__ import annotations

import logging
from pathlib import Path

from kedro.config import MissingConfigException
from kedro.framework.project import settings

from mnist_vae.tracking.config import read_config
from mnist_vae.tracking.run import prepare

logger = logging.getLogger(__name__)


def variables(project: Path, env: str | None) -> dict[str, str]:
    """Return what the processes of the runs have to know; nothing where runs are not tracked.

    The database and the experiment are made here, once, if they are not there: runs that begin
    at the same time would both do it.

    Raises:
        TrackingConfigError: `mlflow.yml` is wrong.
    """
    loader = settings.CONFIG_LOADER_CLASS(
        conf_source=str(project / settings.CONF_SOURCE), env=env, **settings.CONFIG_LOADER_ARGS
    )
    loader.config_patterns.setdefault("mlflow", ["mlflow*"])
    try:
        found = loader["mlflow"]
    except MissingConfigException:
        return {}
    if not found:
        return {}
    config = read_config(found, project)
    try:
        prepare(config)
    except Exception as error:
        logger.warning("MLflow does not answer, and each run tries for itself: %s.", error)
    return {"MLFLOW_TRACKING_URI": config.tracking_uri}
