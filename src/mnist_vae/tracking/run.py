"""A run of MLflow: what of a run of Kedro is logged there."""

from __future__ import annotations

import atexit
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import fsspec
from pydantic import BaseModel

from mnist_vae.data.atomic import replacing
from mnist_vae.data.deadline import Exchanges, within

if TYPE_CHECKING:
    from pathlib import Path

    from mnist_vae.tracking.config import TrackingConfig

Status: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]

_PAGES = ("model_report", "retraining_report")
_MEASURED = ("metrics", "retraining_decision")
_TAGS = ("outcome", "reason", "model_version")
_METRICS_OF_A_REQUEST, _PARAMETERS_OF_A_REQUEST = 1000, 100  # more are refused
_LONGEST_PARAMETER = 500  # characters, which every version of MLflow takes

DEADLINE = 60.0
"""Seconds that one exchange with MLflow may take, uploads too, however slowly it answers."""

CONTEXT = "MLFLOW_RUN_CONTEXT"
"""The environment variable of MLflow with more tags of a run, as JSON."""


def open_run(config: TrackingConfig, name: str, tags: dict[str, str]) -> TrackedRun:
    """Connect to MLflow, and open a run.

    Args:
        config: Where.
        name: Of the run.
        tags: Of the run, from the start, beside those that `MLFLOW_RUN_CONTEXT` has.

    Raises:
        ModuleNotFoundError: MLflow is not installed.
        TimeoutError: It did not answer within the deadline.
    """
    client, experiment = prepare(config)
    tags = {**json.loads(os.environ.get(CONTEXT) or "{}"), **tags}
    create = partial(client.create_run, experiment, tags=tags, run_name=name)
    return TrackedRun(client, within(DEADLINE, create).info.run_id)


def prepare(config: TrackingConfig) -> tuple[Any, str]:
    """Connect to MLflow, and return its client and the experiment, which is made if it is new.

    Raises:
        ModuleNotFoundError: MLflow is not installed.
        TimeoutError: It did not answer within the deadline.
    """
    _set_defaults()
    import mlflow  # noqa: F401 - which takes seconds of its own, before the clock runs

    return within(DEADLINE, _connect, config)


def _connect(config: TrackingConfig) -> tuple[Any, str]:
    from mlflow import MlflowClient

    _prepare_database(config.database)
    client: Any = MlflowClient(tracking_uri=config.tracking_uri)
    found = client.get_experiment_by_name(config.experiment)
    if found is not None:
        return client, found.experiment_id
    return client, client.create_experiment(config.experiment, config.artifact_location)


class TrackedRun:
    """A run of MLflow that is open until `close`, at the latest until the process ends.

    Whatever MLflow raises comes out of the methods, and TimeoutError after the deadline.

    Attributes:
        client: MLflow's own.
        id: Of the run.
    """

    def __init__(self, client: Any, run_id: str) -> None:
        self.client, self.id = client, run_id
        self._logged: set[str] = set()
        self._told_its_outcome = False
        self._exchanges = Exchanges()
        atexit.register(self.close_as_left)

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have the function tell MLflow something, with the deadline."""
        self._exchanges.call(DEADLINE, function, *arguments)

    def close(self, status: Status) -> None:
        """Close the run."""
        self.call(self.client.set_terminated, self.id, status)
        self._exchanges.close()
        atexit.unregister(self.close_as_left)

    def close_as_left(self) -> None:
        """Close the run of a job that ended itself, as one does once its outcome is known."""
        atexit.unregister(self.close_as_left)
        with suppress(Exception):
            self.close("FINISHED" if self._told_its_outcome else "KILLED")

    def log_parameters(self, inputs: dict[str, Any]) -> None:
        """Log the parameters among a node's inputs one by one, if they are not there yet."""
        self.call(self._log_parameters, inputs)

    def log(self, name: str, data: Any) -> None:
        """Log a dataset of this name, if it is one of those that are for people."""
        self.call(self._log, name, data)

    def _log_parameters(self, inputs: dict[str, Any]) -> None:
        from mlflow.entities import Param

        values = {
            key: str(value)[:_LONGEST_PARAMETER]
            for name, group in inputs.items()
            if name.startswith("params:")
            for key, value in _leaves(name.removeprefix("params:"), _plain(group))
            if key not in self._logged
        }
        parameters = [Param(key, value) for key, value in values.items()]
        for some in _portions(parameters, _PARAMETERS_OF_A_REQUEST):
            self.client.log_batch(self.id, params=some)
        self._logged.update(values)

    def _log(self, name: str, data: Any) -> None:
        from PIL import Image
        from plotly.graph_objects import Figure

        data = _plain(data)
        if isinstance(data, Image.Image):
            self.client.log_image(self.id, data, f"{name}.png")
        elif isinstance(data, Figure):
            self.client.log_figure(self.id, data, f"{name}.html")
        elif name in _PAGES:
            self.client.log_text(self.id, data, f"{name}.html")
        elif name == "training_history":
            rows = data.set_index("epoch").to_dict("index")
            self._log_metrics(
                [(key, value, epoch) for epoch, row in rows.items() for key, value in row.items()]
            )
        elif isinstance(data, dict):
            for tag in _TAGS:
                if data.get(tag) is not None:
                    self.client.set_tag(self.id, tag, data[tag])
                    self._told_its_outcome |= tag == "outcome"
            if name in _MEASURED:
                self.client.log_dict(self.id, data, f"{name}.json")
                numbers = [
                    (key, float(value), 0)
                    for key, value in _leaves(name, data)
                    if isinstance(value, int | float)
                ]
                self._log_metrics(numbers)

    def _log_metrics(self, values: list[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, int(step)) for key, value, step in values]
        for some in _portions(metrics, _METRICS_OF_A_REQUEST):
            self.client.log_batch(self.id, metrics=some)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what nested dicts hold, each with the path that leads to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}", inner)
    else:
        yield name, value


def _portions(values: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _set_defaults() -> None:
    """Set what the environment does not; MLflow reads some of it when it is imported."""
    for name, value in {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # else a server that is away costs minutes
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_CONFIGURE_LOGGING": "false",  # conf/logging.yml does
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a job's last line there is its result
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_UV_AUTO_DETECT": "false",  # a model holds no uv.lock of the folder where it runs
    }.items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it says each retry


def _prepare_database(path: Path | None) -> None:
    """Make MLflow's SQLite file, if there is none: whole, or not at all.

    MLflow can do nothing with one that it had only begun to make when it was killed.
    """
    if path is None:
        return
    from mlflow import MlflowClient
    from mlflow.store.db import utils

    utils.MAX_RETRY_COUNT = 1  # with its own 10 it tries for two minutes to open a broken one
    if not path.exists():
        with replacing(fsspec.filesystem("file"), PurePosixPath(path)) as partial:
            MlflowClient(f"sqlite:///{partial}").search_experiments()
