"""Tracking in MLflow: what a run logs there, and the registered model. No Kedro.

Nothing is sent before the run is over, so that no run waits for MLflow. MLflow is imported inside
function bodies, as only the environments that have an `mlflow.yml` use it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import fsspec
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnist_vae.data.atomic import replacing
from mnist_vae.data.deadline import within
from mnist_vae.serving import facts_of, save_model

if TYPE_CHECKING:
    from mnist_vae.jobs.release_files import Release

Status: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]

logger = logging.getLogger(__name__)

DEADLINE = 60.0
"""Seconds that all of it may take, uploads too, however slowly MLflow answers."""

MODEL = "mnist-vae"
"""Name of the registered model: each of its versions is a release."""

_PAGES = ("model_report", "retraining_report")
_MEASURED = ("metrics", "retraining_decision")
_TAGS = ("outcome", "reason", "model_version")
_METRICS_OF_A_REQUEST, _PARAMETERS_OF_A_REQUEST = 1000, 100  # more are refused
_LONGEST_PARAMETER = 500  # characters, which every version of MLflow takes

_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # else a server that is away costs minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_CONFIGURE_LOGGING": "false",  # conf/logging.yml does
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a job's last line there is its result
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",  # a model holds no uv.lock of the folder where it runs
}
"""What the environment of the process need not set; MLflow reads some when it is imported."""

_SQLITE = "sqlite:///"
_Text = Annotated[str, Field(min_length=1)]


class TrackingConfig(BaseModel):
    """Where runs are tracked (`mlflow.yml`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tracking_uri: _Text
    """The address of a server, or `sqlite:///` and the path of a file."""
    experiment: _Text = "mnist-vae"
    artifact_location: _Text | None = None
    """A folder for the files of the runs where there is no server; a server has its own."""

    @property
    def database(self) -> Path | None:
        """The SQLite file, or None where there is a server."""
        path = self.tracking_uri.removeprefix(_SQLITE)
        return Path(path) if path != self.tracking_uri else None


def read_config(raw: dict[str, Any], project: Path) -> TrackingConfig:
    """Return `mlflow.yml` with absolute paths; MLFLOW_TRACKING_URI goes before its address.

    Args:
        raw: The content of the file.
        project: The folder that relative paths are in.

    Raises:
        ValueError: Naming each wrong entry, what is expected, and what was received.
    """
    try:
        config = TrackingConfig.model_validate(raw)
    except ValidationError as error:
        problems = (
            f"`{'.'.join(map(str, each['loc']))}`: {each['msg']}, received {each['input']!r}"
            for each in error.errors()
        )
        raise ValueError(
            f"mlflow.yml is wrong: expected {', '.join(TrackingConfig.model_fields)}, received "
            f"{'; '.join(problems)}; correct conf/*/mlflow.yml."
        ) from error
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return config.model_copy(update={"tracking_uri": uri, "artifact_location": None})
    if config.database is None:
        return config.model_copy(update={"artifact_location": None})
    location = config.artifact_location
    if location is not None and "://" not in location:
        location = str(project / location)
    uri = f"{_SQLITE}{project / config.database}"
    return config.model_copy(update={"tracking_uri": uri, "artifact_location": location})


class RunLog:
    """What one run has for MLflow, from its start until it is sent.

    Args:
        config: Where it is sent to.
        name: Of the run.
        tags: Of the run, next to those that `MLFLOW_RUN_CONTEXT` has.
    """

    def __init__(self, config: TrackingConfig, name: str, tags: dict[str, str]) -> None:
        self._config, self._name = config, name
        self._tags = {**json.loads(os.environ.get("MLFLOW_RUN_CONTEXT") or "{}"), **tags}
        self._started = _now()
        self._parameters: dict[str, str] = {}
        self._data: dict[str, Any] = {}
        self._releases: dict[str, Release] = {}

    def add_parameters(self, inputs: dict[str, Any]) -> None:
        """Take the parameters among the inputs of a node, one by one."""
        for name, group in inputs.items():
            if name.startswith("params:"):
                leaves = _leaves(name.removeprefix("params:"), _plain(group))
                self._parameters |= {key: str(value)[:_LONGEST_PARAMETER] for key, value in leaves}

    def add_data(self, name: str, data: Any) -> None:
        """Take a dataset of this name, if it is one of those that are for people."""
        data = _plain(data)
        if isinstance(data, dict):
            self._tags |= {tag: str(data[tag]) for tag in _TAGS if data.get(tag) is not None}
        if name in (*_PAGES, *_MEASURED, "training_history") or _is_picture(data):
            self._data[name] = data

    def add_release(self, release: Release) -> None:
        """Have the alias `champion` name this release, which is registered if it is new."""
        self._releases.pop(release.name, None)
        self._releases[release.name] = release

    def send(self, status: Status) -> None:
        """Send all of it; what goes wrong is one warning."""
        try:
            for name, value in _DEFAULTS.items():
                os.environ.setdefault(name, value)
            import mlflow  # noqa: F401 - which takes seconds of its own, before the clock runs

            within(DEADLINE, self._send, status)
        except Exception as error:
            expected, received = "MLflow to answer", f"{type(error).__name__} ({_words(error)})"
            if isinstance(error, ModuleNotFoundError):
                expected = "`pip install -c constraints.txt -e '.[mlflow]'`"
                received = f"no module {error.name}"
            logger.warning(
                "This run is not tracked: expected %s, received %s; nothing else depends on it.",
                expected,
                received,
            )

    def _send(self, status: Status) -> None:
        from mlflow.entities import Param

        client, experiment = _connect(self._config)
        run = client.create_run(experiment, self._started, self._tags, self._name).info.run_id
        try:
            parameters = [Param(key, value) for key, value in self._parameters.items()]
            for some in _portions(parameters, _PARAMETERS_OF_A_REQUEST):
                client.log_batch(run, params=some)
            for name, data in self._data.items():
                _log(client, run, name, data)
            for release in self._releases.values():
                _register(client, run, release)
        finally:
            client.set_terminated(run, status)


def _connect(config: TrackingConfig) -> tuple[Any, str]:
    """Return MLflow's client and the experiment, which is made if it is new."""
    from mlflow import MlflowClient

    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it says each retry
    if config.database is not None:
        _prepare(config.database)
    client: Any = MlflowClient(tracking_uri=config.tracking_uri)
    found = client.get_experiment_by_name(config.experiment)
    if found is not None:
        return client, found.experiment_id
    return client, client.create_experiment(config.experiment, config.artifact_location)


def _prepare(path: Path) -> None:
    """Make MLflow's SQLite file, if there is none: whole, or not at all.

    MLflow can do nothing with one that it had only begun to make when it was killed, and tries for
    minutes to open what is no database.

    Raises:
        sqlite3.DatabaseError: It is none.
    """
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            with replacing(fsspec.filesystem("file"), PurePosixPath(path)) as partial:
                MlflowClient(f"{_SQLITE}{partial}").search_experiments()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA schema_version")


def _log(client: Any, run: str, name: str, data: Any) -> None:
    from mlflow.entities import Metric

    values: list[tuple[str, float, int]] = []
    if name in _PAGES:
        client.log_text(run, data, f"{name}.html")
    elif name == "training_history":
        rows = data.set_index("epoch").to_dict("index")
        values = [(key, each, epoch) for epoch, row in rows.items() for key, each in row.items()]
    elif name in _MEASURED:
        client.log_dict(run, data, f"{name}.json")
        leaves = _leaves(name, data)
        values = [(key, each, 0) for key, each in leaves if isinstance(each, int | float)]
    elif hasattr(data, "to_html"):
        client.log_figure(run, data, f"{name}.html")
    else:
        client.log_image(run, data, f"{name}.png")
    metrics = [Metric(key, float(value), _now(), int(step)) for key, value, step in values]
    for some in _portions(metrics, _METRICS_OF_A_REQUEST):
        client.log_batch(run, metrics=some)


def _register(client: Any, run: str, release: Release) -> None:
    """Have the alias `champion` name the version that is this release."""
    of_model = f"name = '{MODEL}'"
    if not client.search_registered_models(of_model):
        client.create_registered_model(MODEL)
    found = client.search_model_versions(f"{of_model} and tags.release = '{release.name}'")
    if not found:
        path = f"releases/{release.name}"
        with tempfile.TemporaryDirectory() as folder:
            save_model(release, Path(folder) / "model")
            client.log_artifacts(run, str(Path(folder) / "model"), path)
        source = f"{client.get_run(run).info.artifact_uri}/{path}"
        found = [client.create_model_version(MODEL, source, run, tags=facts_of(release))]
    client.set_registered_model_alias(MODEL, "champion", found[0].version)


def _is_picture(data: Any) -> bool:
    """Return whether it is a picture of Pillow or a figure of Plotly."""
    from PIL import Image
    from plotly.graph_objects import Figure

    return isinstance(data, Image.Image | Figure)


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


def _now() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)


def _words(error: Exception) -> str:
    """Return what the error says in one line, without a password."""
    words = re.sub(r"//[^/\s]*@", "//", " ".join(str(error).split()))
    return textwrap.shorten(words, 250, placeholder=" …")
