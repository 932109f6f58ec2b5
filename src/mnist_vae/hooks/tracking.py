"""Tracking in MLflow after a run, in the environments that have an `mlflow.yml`."""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import click
from filelock import FileLock
from kedro.config import MissingConfigException
from kedro.framework.hooks import hook_impl
from pydantic import BaseModel, ConfigDict, ValidationError

from mnist_vae.data.downloads import within
from mnist_vae.jobs.names import one_line
from mnist_vae.jobs.release_files import Release
from mnist_vae.serving import facts_of, save_model

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext

Status: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]

DEADLINE = 60.0  # seconds for all of it, uploads too, however slowly MLflow answers
MODEL = "mnist-vae"  # the registered model: each of its versions is a release

_PAGES = ("model_report", "retraining_report")
_MEASURED = ("metrics", "retraining_decision")
_OUTCOME = ("outcome", "reason", "model_version")
_SQLITE = "sqlite:///"
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # else a server that is away costs minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_CONFIGURE_LOGGING": "false",  # conf/logging.yml does
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a job's last line there is its result
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",  # a model holds no uv.lock of the folder where it runs
}

logger = logging.getLogger(__name__)


class TrackingConfig(BaseModel):
    """Where runs are tracked (`mlflow.yml`)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tracking_uri: str
    """The address of a server, or `sqlite:///` and the path of a file, with artifacts next to it;
    MLFLOW_TRACKING_URI goes before it."""
    experiment: str = "mnist-vae"


@dataclass
class RunLog:
    """What one run has for MLflow, from its start until it is sent."""

    name: str
    tags: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    release: Release | None = None  # in service when it ended
    started: int = field(default_factory=lambda: int(time.time() * 1000))

    def add(self, name: str, data: Any) -> None:
        """Take what a run has saved under this name, if it is one of those that are for people."""
        from PIL import Image
        from plotly.graph_objects import Figure

        data = _plain(data)
        if isinstance(data, dict):
            self.tags |= {tag: str(data[tag]) for tag in _OUTCOME if data.get(tag) is not None}
        picture = isinstance(data, Image.Image | Figure)
        if picture or name in (*_PAGES, *_MEASURED, "training_history"):
            self.data[name] = data

    def send(self, config: TrackingConfig, status: Status) -> None:
        """Send all of it; what goes wrong is one warning."""
        os.environ |= {**_DEFAULTS, **os.environ}  # MLflow reads some when it is imported
        expected = "MLflow to answer"
        try:
            import mlflow  # noqa: F401 - which takes seconds of its own, before the clock runs

            within(DEADLINE, self._send, config, status)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError):
                expected = "`pip install -c constraints.txt -e '.[mlflow]'`"
            words = re.sub(r"//[^/\s]*@", "//", one_line(str(error)))  # without a password
            logger.warning(
                "This run is not tracked: expected %s, received %s (%s); nothing else depends on "
                "it.",
                expected,
                type(error).__name__,
                words,
            )

    def _send(self, config: TrackingConfig, status: Status) -> None:
        from mlflow.entities import Param

        client, experiment = _connect(config)
        tags = json.loads(os.environ.get("MLFLOW_RUN_CONTEXT") or "{}") | self.tags
        run = client.create_run(experiment, self.started, tags, self.name).info.run_id
        try:
            client.log_batch(run, params=[Param(*pair) for pair in self.parameters.items()])
            for name, data in self.data.items():
                _log(client, run, name, data)
            if self.release is not None:
                _register(client, run, self.release)
        finally:
            client.set_terminated(run, status)


class Tracking:
    """Track each run in MLflow, and those from `begin_command` to `end_command` as one."""

    _config: TrackingConfig | None = None
    _log: RunLog | None = None
    _command: str | None = None

    def begin_command(self, name: str) -> None:
        """Take what the next runs log as that of one run of this name."""
        self._command, self._log = name, None

    def end_command(self, status: Status, line: dict[str, Any], release: Release | None) -> None:
        """Send what the runs of the command have logged, its outcome, and the model in service."""
        log, self._command = self._log or RunLog(self._command or ""), None
        log.add("line", line)
        log.release = release
        self._end(log, status)

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read `mlflow.yml`, where the environment has one; its paths are those of the project."""
        try:
            found = context.config_loader["mlflow"]
            self._config = TrackingConfig.model_validate(found) if found else None
        except MissingConfigException:
            self._config = None
        except ValidationError as error:
            wrong = error.errors()[0]
            raise click.ClickException(
                f"mlflow.yml is wrong: expected {', '.join(TrackingConfig.model_fields)}, received "
                f"`{wrong['loc'][0]}`: {wrong['msg']}; correct conf/*/mlflow.yml."
            ) from error
        if self._config is not None:
            uri = os.environ.get("MLFLOW_TRACKING_URI") or self._config.tracking_uri
            if uri.startswith(_SQLITE):
                uri = f"{_SQLITE}{Path(context.project_path) / uri.removeprefix(_SQLITE)}"
            self._config.tracking_uri = uri

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Begin, but for a command that has begun."""
        if self._log is None or self._command is None:
            name = self._command or ",".join(run_params["pipeline_names"] or ["__default__"])
            self._log = RunLog(name, {"env": str(run_params["env"])}) if self._config else None

    @hook_impl
    def before_node_run(self, inputs: dict[str, Any]) -> None:
        """Log the parameters that the node takes, one by one."""
        for name, group in inputs.items():
            if self._log is not None and name.startswith("params:"):
                leaves = _leaves(name.removeprefix("params:"), _plain(group))
                self._log.parameters |= {key: str(value) for key, value in leaves}

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what the run has made."""
        if self._log is not None:
            self._log.add(dataset_name.removeprefix("candidate_"), data)

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Send it with the status of a finished run."""
        if self._command is None:
            self._end(self._log, "FINISHED")

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Send it with the status of a failed run."""
        if self._command is None:
            self._end(self._log, "FAILED")

    def _end(self, log: RunLog | None, status: Status) -> None:
        self._log = None
        if log is not None and self._config is not None:
            log.send(self._config, status)


def _connect(config: TrackingConfig) -> tuple[Any, str]:
    from mlflow import MlflowClient

    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it says each retry
    artifacts = None  # a server has its own
    if config.tracking_uri.startswith(_SQLITE):
        path = Path(config.tracking_uri.removeprefix(_SQLITE))
        artifacts = str(path.parent / "artifacts")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():  # MLflow can do nothing with one that it had only begun to make
                partial = path.with_name(f".partial-{path.name}")
                partial.unlink(missing_ok=True)
                MlflowClient(f"{_SQLITE}{partial}").search_experiments()
                partial.replace(path)
    client: Any = MlflowClient(config.tracking_uri)
    found = client.get_experiment_by_name(config.experiment)
    return client, (
        found.experiment_id if found else client.create_experiment(config.experiment, artifacts)
    )


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
    now = int(time.time() * 1000)
    client.log_batch(run, [Metric(key, float(value), now, int(at)) for key, value, at in values])


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


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what nested dicts hold, each with the path that leads to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}", inner)
    else:
        yield name, value


tracking = Tracking()
"""The commands of jobs end it when their locks are free."""
