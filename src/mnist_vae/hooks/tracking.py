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
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import click
from filelock import FileLock
from kedro.config import MissingConfigException
from kedro.framework.hooks import hook_impl
from pydantic import BaseModel

from mnist_vae import serving
from mnist_vae.data.downloads import within
from mnist_vae.data.tables import ImagesDataset
from mnist_vae.jobs.names import one_line

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.pipeline import Pipeline

    from mnist_vae.jobs.release_files import Release

Status: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]

DEADLINE = 60.0  # seconds for all of it, uploads too, however slowly MLflow answers
MODEL = "mnist-vae"  # the registered model: each of its versions is a release

_PAGES = ("model_report", "retraining_report")
_MEASURED = ("metrics", "retraining_decision")
_OUTCOME = ("outcome", "reason", "model_version")
_NEEDED = ("mlflow", "keras", "numpy", "pandas", "tensorflow")
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


@dataclass
class RunLog:
    """What one run has for MLflow, from its start until it is sent."""

    name: str
    tags: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    release: Release | None = None  # in service when it ended
    started: int = field(default_factory=lambda: int(time.time() * 1000))


class Tracking:
    """Track each run in MLflow, and those from `begin_command` to `end_command` as one."""

    _server: dict[str, str] | None = None
    _command: str | None = None

    def __init__(self) -> None:
        self._log = RunLog("")

    def begin_command(self, name: str) -> None:
        """Take what the next runs log as that of one run of this name."""
        self._command, self._log = name, RunLog(name)

    def end_command(self, status: Status, line: dict[str, Any], release: Release | None) -> None:
        """Send what the runs of the command have logged, its outcome, and the model in service."""
        self._log.tags |= {tag: str(line[tag]) for tag in _OUTCOME if line.get(tag) is not None}
        self._log.release = release
        self._command = None
        self._end(status)

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read `mlflow.yml`, where the environment has one; its paths are those of the project."""
        self._server, self._parameters = None, context.config_loader["parameters"]
        try:
            found = context.config_loader["mlflow"]
        except MissingConfigException:
            return
        if not found:
            return
        server = {"experiment": MODEL} | found
        if set(server) != {"tracking_uri", "experiment"}:
            raise click.ClickException(
                "mlflow.yml is wrong: expected `tracking_uri` and `experiment`, received "
                f"{', '.join(server)}; correct conf/*/mlflow.yml."
            )
        uri = os.environ.get("MLFLOW_TRACKING_URI") or server["tracking_uri"]
        if uri.startswith(_SQLITE):
            uri = f"{_SQLITE}{Path(context.project_path) / uri.removeprefix(_SQLITE)}"
        self._server = server | {"tracking_uri": uri}

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline) -> None:
        """Begin, but for a command that has begun, and log the parameters that the run takes."""
        if self._command is None:
            self._log = RunLog(",".join(run_params["pipeline_names"] or ["__default__"]))
        self._log.tags["env"] = str(run_params["env"])
        taken = {name.removeprefix("params:") for name in pipeline.inputs()}
        groups = {name: group for name, group in self._parameters.items() if name in taken}
        self._log.parameters |= {key: str(value) for key, value in _leaves(groups)}

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what the run has made for people."""
        if self._server is None:
            return
        from PIL import Image
        from plotly.graph_objects import Figure

        name = dataset_name.removeprefix("candidate_")
        known = name in (*_PAGES, *_MEASURED, "training_history")
        if known or isinstance(data, Image.Image | Figure):
            self._log.data[name] = data

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Send it with the status of a finished run."""
        self._end("FINISHED")

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Send it with the status of a failed run."""
        self._end("FAILED")

    def _end(self, status: Status) -> None:
        """Send all of it, unless a command goes on; what goes wrong is one warning."""
        if self._server is None or self._command is not None:
            return
        os.environ |= {**_DEFAULTS, **os.environ}  # MLflow reads some when it is imported
        try:
            import mlflow  # noqa: F401 - which takes seconds of its own, before the clock runs

            within(DEADLINE, _send, self._server, self._log, status)
        except Exception as error:
            logger.warning(
                "This run is not tracked: expected MLflow (`pip install -c constraints.txt -e "
                "'.[mlflow]'`) to answer, received %s (%s); nothing else depends on it.",
                type(error).__name__,
                re.sub(r"//[^/\s]*@", "//", one_line(str(error))),  # without a password
            )


def _send(server: dict[str, str], log: RunLog, status: Status) -> None:
    from mlflow.entities import Param

    client, experiment = _connect(**server)
    tags = json.loads(os.environ.get("MLFLOW_RUN_CONTEXT") or "{}") | log.tags
    run = client.create_run(experiment, log.started, tags, log.name).info.run_id
    try:
        client.log_batch(run, params=[Param(*pair) for pair in log.parameters.items()])
        for name, data in log.data.items():
            _send_data(client, run, name, data)
        if log.release is not None:
            _register(client, run, log.release)
    finally:
        client.set_terminated(run, status)


def _connect(tracking_uri: str, experiment: str) -> tuple[Any, str]:
    from mlflow import MlflowClient

    artifacts = None  # a server has its own
    if tracking_uri.startswith(_SQLITE):
        path = Path(tracking_uri.removeprefix(_SQLITE))
        artifacts = str(path.parent / "artifacts")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():  # MLflow can do nothing with one that it had only begun to make
                partial = path.with_name(f".partial-{path.name}")
                partial.unlink(missing_ok=True)
                MlflowClient(f"{_SQLITE}{partial}").search_experiments()
                partial.replace(path)
    client = MlflowClient(tracking_uri)
    found = client.get_experiment_by_name(experiment)
    return client, (
        found.experiment_id if found else client.create_experiment(experiment, artifacts)
    )


def _send_data(client: Any, run: str, name: str, data: Any) -> None:
    from mlflow.entities import Metric

    values: list[tuple[str, float, int]] = []
    if name in _PAGES:
        client.log_text(run, data, f"{name}.html")
    elif name == "training_history":
        rows = data.set_index("epoch").to_dict("index")
        values = [(key, each, epoch) for epoch, row in rows.items() for key, each in row.items()]
    elif name in _MEASURED:
        figures = data.model_dump(mode="json") if isinstance(data, BaseModel) else data
        client.log_dict(run, figures, f"{name}.json")
        leaves = _leaves({name: figures})
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
        facts = {"release": release.name, "model_version": release.manifest["model_version"]}
        with tempfile.TemporaryDirectory() as folder:
            _save_model(release.folder, Path(folder, "model"), facts)
            client.log_artifacts(run, str(Path(folder, "model")), path)
        source = f"{client.get_run(run).info.artifact_uri}/{path}"
        found = [client.create_model_version(MODEL, source, run, tags=facts)]
    client.set_registered_model_alias(MODEL, "champion", found[0].version)


def _save_model(release: Path, folder: Path, facts: dict[str, str]) -> None:
    """Save the release in a folder as a model of MLflow, with this package and all its files."""
    from mlflow.models import infer_signature
    from mlflow.pyfunc import save_model

    images = ImagesDataset(filepath=str(release / "test_images.parquet")).load()
    example = images.take(slice(0, 4)).model_input()
    save_model(
        folder,
        loader_module=serving.__name__,
        data_path=str(release),
        code_paths=[str(Path(serving.__file__).parent)],
        # Without these MLflow would load the model in a process of its own to find them.
        pip_requirements=[f"{package}=={version(package)}" for package in _NEEDED],
        signature=infer_signature(example, serving.EmbeddingModel(release).embed(example)),
        input_example=example,
        metadata=facts,
    )


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what nested dicts hold, each with the path that leads to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


tracking = Tracking()
"""The commands of jobs end it when their locks are free."""
