"""Tracking in MLflow, in the environments that have an `mlflow.yml`; elsewhere it is not imported.

kedro-mlflow opens the run and logs the parameters. Its hooks are not registered with Kedro
(`DISABLE_HOOKS_FOR_PLUGINS` in the settings), where they would connect in every environment, open
every dataset of the catalog, and end the run when the server is away: `Tracking` calls them.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import fsspec
from kedro.config import MissingConfigException
from kedro.framework.hooks import hook_impl
from pydantic import BaseModel

from mnist_vae.datasets.atomic import replacing
from mnist_vae.retraining.records import Decline, Promote, RollBack

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

    from mnist_vae.datasets.releases import Release

logger = logging.getLogger(__name__)

MODEL = "mnist-vae"
"""Name of the registered model; each of its versions is a release."""

_MEASURED = ("metrics", "retraining_decision")
_TAGS = ("outcome", "reason", "model_version")
_METRICS_OF_A_REQUEST = 1000

# MLflow reads some of these when it is imported, so they are set before that.
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # else a server that is away costs minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_CONFIGURE_LOGGING": "false",  # conf/logging.yml does
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a job's last line there is its result
    "MLFLOW_DISABLE_TELEMETRY": "true",
}.items():
    os.environ.setdefault(_name, _value)


class Tracking:
    """Track a run in MLflow: parameters, metrics, pictures, and the model in service.

    Whatever MLflow raises is logged in one sentence and ends the tracking, never the run. Named
    before `Jobs` in the settings, it opens a run of MLflow after the job has taken its
    lock. Where the job ends the process, MLflow closes the run itself, as finished.
    """

    plugin: Any = None
    """The hooks of kedro-mlflow, while this run is tracked."""
    _context: Any = None
    _catalog: Any = None
    _followed: str | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read `mlflow.yml`, where the environment has one; `kedro mlflow ui` needs no more."""
        self._close_what_was_left_open()
        self.plugin = self._catalog = self._followed = None
        loader: Any = context.config_loader
        loader.config_patterns.setdefault("mlflow", ["mlflow*"])
        try:
            config = loader["mlflow"]
        except MissingConfigException:
            return
        with self._harmless():
            from kedro_mlflow.config.kedro_mlflow_config import KedroMlflowConfig
            from kedro_mlflow.framework.hooks import MlflowHook

            logging.getLogger("kedro_mlflow").setLevel(logging.WARNING)
            logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # each retry
            loader["mlflow"] = located(config, context.project_path)
            self._context = context
            self._context.mlflow = KedroMlflowConfig.model_validate(loader["mlflow"])
            self.plugin = MlflowHook()

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Connect, and open a run of MLflow."""
        self._catalog = catalog
        if self.plugin is not None:
            with self._harmless():
                _prepare_database(self._context.mlflow.server.mlflow_tracking_uri)
                self.plugin.after_context_created(self._context)
        # Its parameters are logged with all the others.
        tags = {**run_params, "runtime_params": None}
        self._forward("before_pipeline_run", run_params=tags, pipeline=pipeline, catalog=catalog)

    @hook_impl
    def before_node_run(
        self, node: Node, catalog: CatalogProtocol[Any, Any], inputs: dict[str, Any], is_async: bool
    ) -> None:
        """Log the parameters that the node takes."""
        groups = {
            name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for name, value in inputs.items()
            if name.startswith("params:")
        }
        self._forward(
            "before_node_run", node=node, catalog=catalog, inputs=groups, is_async=is_async
        )

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """See to it that the alias is where it should be, also after a run that was not tracked."""
        if self._is_on() and dataset_name == "champion":
            with self._harmless():
                self._follow(data)

    @hook_impl(tryfirst=True)
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what the run has made."""
        if self._is_on():
            with self._harmless():
                if isinstance(data, Promote | Decline | RollBack):
                    self._follow(self._catalog.load("champion"))
                else:
                    self._log(dataset_name.removeprefix("candidate_"), data)

    @hook_impl(tryfirst=True)
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Close the run of MLflow."""
        self._forward(
            "after_pipeline_run", run_params=run_params, pipeline=pipeline, catalog=catalog
        )

    @hook_impl(tryfirst=True)
    def on_pipeline_error(
        self,
        error: Exception,
        run_params: dict[str, Any],
        pipeline: Pipeline,
        catalog: CatalogProtocol[Any, Any],
    ) -> None:
        """Close the run of MLflow as failed."""
        self._forward(
            "on_pipeline_error",
            error=error,
            run_params=run_params,
            pipeline=pipeline,
            catalog=catalog,
        )

    def _close_what_was_left_open(self) -> None:
        """Close the run of an earlier job in this process, as in a notebook, which ended itself."""
        if self._is_on() and "mlflow" in sys.modules:
            with self._harmless():
                import mlflow

                left = mlflow.active_run()
                if left is not None and left.info.run_id == self.plugin.run_id:
                    mlflow.end_run()

    def _is_on(self) -> bool:
        """Return whether a run of MLflow is open; `disable_tracking` leaves some pipelines out."""
        return self.plugin is not None and self.plugin.run_id is not None

    def _forward(self, hook: str, **arguments: Any) -> None:
        if self.plugin is not None:
            with self._harmless():
                getattr(self.plugin, hook)(**arguments)

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """Keep from the run what MLflow raises, and track it no further."""
        try:
            yield
        except Exception as error:
            logger.warning(
                "This run is not tracked%s: expected %s, received %s; the run itself goes on.",
                " any further" if self._is_on() else "",
                *_expected_and_received(error),
            )
            self.plugin = None
            if "mlflow" in sys.modules:
                with suppress(Exception):
                    sys.modules["mlflow"].end_run("KILLED")

    def _log(self, name: str, data: Any) -> None:
        """Log a dataset of this name, if it is one of those that are for people."""
        from mlflow.tracking import MlflowClient
        from PIL import Image
        from plotly.graph_objects import Figure

        client, run_id = MlflowClient(), self.plugin.run_id
        if isinstance(data, BaseModel):
            data = data.model_dump(mode="json")
        if isinstance(data, Image.Image):
            client.log_image(run_id, data, f"{name}.png")
        elif isinstance(data, Figure):
            client.log_figure(run_id, data, f"{name}.html")
        elif name == "retraining_report":
            client.log_text(run_id, data, f"{name}.html")
        elif name == "training_history":
            rows = data.set_index("epoch").to_dict("index")
            self._log_metrics(
                [(key, value, epoch) for epoch, row in rows.items() for key, value in row.items()]
            )
        elif isinstance(data, dict):
            for tag in _TAGS:
                if data.get(tag) is not None:
                    client.set_tag(run_id, tag, data[tag])
            if name in _MEASURED:
                client.log_dict(run_id, data, f"{name}.json")
                self._log_metrics([(key, value, 0) for key, value in _numbers(name, data)])

    def _log_metrics(self, values: list[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric
        from mlflow.tracking import MlflowClient

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, int(step)) for key, value, step in values]
        for start in range(0, len(metrics), _METRICS_OF_A_REQUEST):
            MlflowClient().log_batch(
                self.plugin.run_id, metrics[start : start + _METRICS_OF_A_REQUEST]
            )

    def _follow(self, release: Release | None) -> None:
        """Have the alias `champion` name the release in service, registered if it is new."""
        from mlflow.tracking import MlflowClient

        if release is None or release.name == self._followed:
            return
        client = MlflowClient()
        of_model = f"name = '{MODEL}'"
        if not client.search_registered_models(of_model):
            client.create_registered_model(MODEL)
        found = client.search_model_versions(f"{of_model} and tags.release = '{release.name}'")
        version = found[0] if found else self._register(release)
        client.set_registered_model_alias(MODEL, "champion", version.version)
        self._followed = release.name

    def _register(self, release: Release) -> Any:
        """Upload all files of the release, and return the model version that they are."""
        from mlflow.tracking import MlflowClient

        client, run_id = MlflowClient(), self.plugin.run_id
        folder = f"releases/{release.name}"
        client.log_artifacts(run_id, str(release.folder), folder)
        return client.create_model_version(
            MODEL,
            source=f"{client.get_run(run_id).info.artifact_uri}/{folder}",
            run_id=run_id,
            tags={"release": release.name, "model_version": release.manifest["model_version"]},
        )


def located(config: dict[str, Any], project: Path) -> dict[str, Any]:
    """Return `mlflow.yml` with the address in the environment, or with its own made absolute."""
    server = config.setdefault("server", {})
    path = str(server.get("mlflow_tracking_uri")).removeprefix("sqlite:///")
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        server["mlflow_tracking_uri"] = uri
        config.get("tracking", {}).get("experiment", {}).pop("create_experiment_kwargs", None)
    elif path != server.get("mlflow_tracking_uri"):
        server["mlflow_tracking_uri"] = f"sqlite:///{project / path}"
    return config


def _prepare_database(uri: str) -> None:
    """Make MLflow's SQLite file, if there is none: whole, or not at all.

    MLflow can do nothing with one that it had only begun to make when it was killed.
    """
    if uri.startswith("http"):
        return
    from mlflow.store.db import utils
    from mlflow.tracking import MlflowClient

    utils.MAX_RETRY_COUNT = 1  # with its own 10 it tries for two minutes to open a broken one
    path = PurePosixPath(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not Path(path).exists():
        with replacing(fsspec.filesystem("file"), path) as partial:
            MlflowClient(f"sqlite:///{partial}").search_experiments()


def _expected_and_received(error: Exception) -> tuple[str, str]:
    if isinstance(error, ModuleNotFoundError):
        return "`pip install -c constraints.txt -e '.[mlflow]'`", f"no module {error.name}"
    message = re.sub(r"//[^/\s]*@", "//", " ".join(str(error).split()))  # less a password
    message = textwrap.shorten(message, 250, placeholder=" …")
    return "MLflow to answer", f"{type(error).__name__} ({message})"


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """Yield the numbers in nested dicts, each with the path that leads to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(f"{name}.{key}", inner)
    elif isinstance(value, int | float):
        yield name, float(value)
