"""Tracking in MLflow after a run, in the environments that have an `mlflow.yml`."""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from filelock import FileLock
from kedro.config import MissingConfigException
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from pydantic import BaseModel

from mnist_vae import serving
from mnist_vae.data.downloads import within
from mnist_vae.jobs.job import JOB_PIPELINES
from mnist_vae.jobs.names import one_line
from mnist_vae.jobs.release_files import Release

Status = Literal["FINISHED", "FAILED", "KILLED"]

DEADLINE = 60.0  # seconds for all of it, uploads too, however slowly MLflow answers
MODEL = "mnist-vae"  # the registered model: each of its versions is a release

_MADE = {"model_report", "retraining_report", "metrics", "retraining_decision", "training_history"}
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

    name: str = ""  # of a part of a command, until the command ends
    tags: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    started: int = field(default_factory=lambda: int(time.time() * 1000))


class Tracking:
    """Track each run in MLflow; those of a command of a job as one, which `end_command` sends."""

    def __init__(self) -> None:
        self._server: dict[str, Any] | None = None
        self._log = RunLog()

    def end_command(self, name: str, status: Status, line: Any, release: Release | None) -> None:
        """Send what the runs of the command have logged, its outcome, and the model in service."""
        tags = {tag: line[tag] for tag in ("outcome", "reason", "model_version") if tag in line}
        self._log.name, self._log.tags = name, self._log.tags | tags
        self._end(status, release)

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read `mlflow.yml`, where the environment has one; its paths are those of the project."""
        self._server, self._parameters = None, context.config_loader["parameters"]
        with suppress(MissingConfigException):
            self._server = {"project": context.project_path, **context.config_loader["mlflow"]}

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline) -> None:
        """Log the parameters that the run takes."""
        names = run_params["pipeline_names"] or ["__default__"]
        if not JOB_PIPELINES.intersection(names):
            self._log = RunLog(",".join(names))
        self._log.tags["env"] = str(run_params["env"])
        taken = {name.removeprefix("params:") for name in pipeline.inputs()}
        groups = {name: group for name, group in self._parameters.items() if name in taken}
        (leaves,) = pd.json_normalize(groups).to_dict("records")
        self._log.parameters |= {str(name): str(value) for name, value in leaves.items()}

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what the run has made for people."""
        name, library = dataset_name.removeprefix("candidate_"), type(data).__module__
        shown = name in _MADE or library.startswith(("PIL.", "plotly."))
        if shown and self._server is not None:
            self._log.data[name] = data

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Send it with the status of a finished run."""
        self._end("FINISHED")

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Send it with the status of a failed run."""
        self._end("FAILED")

    def _end(self, status: Status, release: Release | None = None) -> None:
        log, server = self._log, self._server
        self._log = RunLog() if log.name else log  # what a command has logged goes at its end
        if server is None or not log.name:
            return
        os.environ |= {**_DEFAULTS, **os.environ}  # MLflow reads some when it is imported
        try:
            within(DEADLINE, _send, server, log, status, release)
        except Exception as error:
            logger.warning(
                "This run is not tracked: expected MLflow (`pip install -c constraints.txt -e "
                "'.[mlflow]'`) to answer, received %s (%s); nothing else depends on it.",
                type(error).__name__,
                re.sub(r"//[^/\s]*@", "//", one_line(str(error))),  # without a password
            )


def _send(server: dict[str, Any], log: RunLog, status: Status, release: Release | None) -> None:
    from mlflow.entities import Param

    client, experiment = _connect(**server)
    tags = json.loads(os.environ.get("MLFLOW_RUN_CONTEXT") or "{}") | log.tags
    run = client.create_run(experiment, log.started, tags, log.name).info.run_id
    try:
        client.log_batch(run, params=[Param(*pair) for pair in log.parameters.items()])
        for name, data in log.data.items():
            _send_data(client, run, name, data)
        if release is not None:
            _register(client, run, release)
    finally:
        client.set_terminated(run, status)


def _connect(project: Path, tracking_uri: str, experiment: str) -> tuple[Any, str]:
    from mlflow import MlflowClient

    uri, artifacts = os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri, None
    if uri.startswith(_SQLITE):
        path = project / uri.removeprefix(_SQLITE)
        uri, artifacts = f"{_SQLITE}{path}", str(path.parent / "artifacts")
        partial = path.with_name(f".partial-{path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():  # MLflow can do nothing with half of one, as a kill leaves it
                partial.unlink(missing_ok=True)
                MlflowClient(f"{_SQLITE}{partial}").search_experiments()
                partial.replace(path)
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    return client, found.experiment_id if found else client.create_experiment(experiment, artifacts)


def _send_data(client: Any, run: str, name: str, data: Any) -> None:
    from mlflow.entities import Metric

    figures: Any = pd.DataFrame()  # a row an epoch, or one
    if isinstance(data, pd.DataFrame):
        figures = data.set_index("epoch")
    elif isinstance(data, BaseModel | dict):
        content = data.model_dump(mode="json") if isinstance(data, BaseModel) else data
        client.log_dict(run, content, f"{name}.json")
        figures = pd.json_normalize({name: content})
    elif isinstance(data, str):
        client.log_text(run, data, f"{name}.html")
    elif hasattr(data, "to_html"):
        client.log_figure(run, data, f"{name}.html")
    else:
        client.log_image(run, data, f"{name}.png")
    now = int(time.time() * 1000)
    metrics = [
        Metric(figure, value, now, epoch)
        for figure, column in figures.select_dtypes("number").items()
        for epoch, value in column.items()
    ]
    client.log_batch(run, metrics)


def _register(client: Any, run: str, release: Release) -> None:
    from mlflow import models, pyfunc

    of_model = f"name = '{MODEL}'"
    if not client.search_registered_models(of_model):
        client.create_registered_model(MODEL)
    found = client.search_model_versions(f"{of_model} and tags.release = '{release.name}'")
    if not found:
        facts = {"release": release.name, "model_version": release.manifest["model_version"]}
        example = release.load("test_images.parquet").take(slice(0, 4)).model_input()
        embeddings = serving.EmbeddingModel(release.folder).embed(example)
        path = f"releases/{release.name}"
        with tempfile.TemporaryDirectory() as folder:
            pyfunc.save_model(
                f"{folder}/model",
                loader_module=serving.__name__,
                data_path=str(release.folder),
                code_paths=[str(Path(serving.__file__).parent)],
                # Without these MLflow would load the model in a process of its own to find them.
                pip_requirements=[f"{name}=={version(name)}" for name in _NEEDED],
                signature=models.infer_signature(example, embeddings),
                input_example=example,
                metadata=facts,
            )
            client.log_artifacts(run, f"{folder}/model", path)
        found = [client.create_model_version(MODEL, f"runs:/{run}/{path}", run, tags=facts)]
    client.set_registered_model_alias(MODEL, "champion", found[0].version)


tracking = Tracking()
"""The commands of jobs end it when their locks are free."""
