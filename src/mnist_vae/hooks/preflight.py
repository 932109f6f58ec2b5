"""The hook that refuses a run, before any node of it, and that lets one run at a time begin."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from filelock import FileLock
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline

from mnist_vae.config import check_configuration, entry_paths
from mnist_vae.data.idx import IdxDataset
from mnist_vae.engines import EngineError, check_engine
from mnist_vae.jobs.job import JOB_PIPELINES, LockedError, take_lock
from mnist_vae.jobs.release_files import ReleaseError, in_a_release, release_at
from mnist_vae.params import Parameters

_OF_A_TRAINING = {"decoder_initialization"}  # nothing else reads it


class Preflight:
    """Refuse a run with wrong parameters, without its inputs, or while another one is under way.

    What the commands of jobs run has locks of its own; only a scoring is asked for its inputs.
    """

    _parameters: Parameters
    _data: Path
    _paths: dict[str, Path]
    _lock: FileLock | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Check all parameters as they are after environment and `--params`."""
        self._parameters = check_configuration(context.config_loader)
        self._data = Path(context.project_path) / context.config_loader["globals"]["data"]

    @hook_impl
    def after_catalog_created(self, conf_catalog: dict[str, Any]) -> None:
        """Note where the entries are."""
        self._paths = entry_paths(conf_catalog)

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Look at what the run reads and writes, and take the lock of its data folder.

        Raises:
            click.ClickException: Something is missing or does not fit, or another run has the lock.
        """
        self._release_lock()  # of a run that another hook refused, in the same process
        backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
        if backend != "tensorflow":
            raise click.ClickException(
                "Keras is asked to compute on another backend: expected KERAS_BACKEND to be "
                f"tensorflow, received {backend}; leave it out."
            )
        names = set(run_params["pipeline_names"] or ())
        try:
            if "params:embedding" in pipeline.inputs():
                check_engine(self._parameters.embedding)
            self._check_release(pipeline)
            if not names & (JOB_PIPELINES - {"scoring"}):
                inputs = {n: catalog[n] for n in sorted(pipeline.inputs()) if n in catalog}
                if not run_params["only_missing_outputs"]:  # Kedro skips nodes with their inputs
                    self._check_inputs(inputs)
                given = (run_params["runtime_params"] or {}).get("model") or {}
                self._check_model(set(given), catalog, inputs)
        except (DatasetError, EngineError) as error:
            raise click.ClickException(str(error)) from error
        if names & JOB_PIPELINES:
            return
        try:
            self._lock = take_lock(self._data / ".run.lock")
        except LockedError as error:
            raise click.ClickException(
                f"The data folder {self._data} is in use: expected one run at a time, received "
                f"this one while {error}; wait for it, or give this one another folder with "
                "`--params data_folder=PATH`."
            ) from error

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Release the lock."""
        self._release_lock()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Release the lock."""
        self._release_lock()

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _check_release(self, pipeline: Pipeline) -> None:
        of_a_release = {name for name, path in self._paths.items() if in_a_release(path)}
        if written := sorted(of_a_release & pipeline.all_outputs()):
            raise ReleaseError(
                f"The run would write {', '.join(written)} to the release in service: expected a "
                "run that only reads it, as no file of a release ever changes, received one that "
                "makes what belongs to a model; train the next one with `kedro retrain`, or run "
                "this in another environment."
            )
        for folder in {self._paths[name].parent for name in of_a_release & pipeline.inputs()}:
            release_at(folder).check()

    def _check_inputs(self, inputs: dict[str, Any]) -> None:
        missing, makers = [], set()
        for name, dataset in inputs.items():
            maker = _maker(name)
            if hasattr(dataset, "check"):  # an archive of images
                dataset.check()
            elif isinstance(dataset, IdxDataset) and not dataset.exists():
                dataset.load()  # it says where the file should be, and how to make it
            elif maker and not getattr(dataset, "optional", False) and not dataset.exists():
                missing.append(f"{name} ({self._paths.get(name)})")
                makers.add("retrain" if in_a_release(self._paths[name]) else maker)
        if missing:
            needed = "run --pipelines " + ",".join(name for name in pipelines if name in makers)
            raise click.ClickException(
                f"The inputs of the run are not there: expected {', '.join(missing)}, received "
                f"nothing; run `kedro {'retrain' if 'retrain' in makers else needed}` first."
            )

    def _check_model(
        self, given: set[str], catalog: CatalogProtocol[Any, Any], inputs: dict[str, Any]
    ) -> None:
        """Refuse values of `model` that the loaded model was not made with."""
        model = next((name for name in ("encoder", "decoder") if name in inputs), None)
        if model is None or not catalog.exists("training_summary"):
            return
        asked, made = self._parameters.model, catalog["training_summary"].load().get("model", {})
        chosen, maker = given, "retrain"
        # In conf may stand what is for the next training; a release was made with other conf.
        if not in_a_release(self._paths[model]):
            chosen = given | asked.model_dump(exclude_defaults=True, exclude=_OF_A_TRAINING).keys()
            maker = "run --pipelines training"
        for key, value in asked.model_dump(mode="json", include=chosen & made.keys()).items():
            if value != made[key]:
                raise click.ClickException(
                    f"Parameter `model.{key}` contradicts the model that the run loads, "
                    f"{self._paths[model]}: expected {made[key]}, received {value}; take it out of "
                    f"{'--params' if key in given else 'conf'}, or make such a model first, with "
                    f"`kedro {maker} --params model.{key}={value}`."
                )


def _maker(dataset: str) -> str | None:
    """Return the smallest registered pipeline that makes this dataset, if there is one."""
    makers = [
        name
        for name, pipeline in pipelines.items()
        if dataset in pipeline.all_outputs() and name not in JOB_PIPELINES
    ]
    return min(makers, key=lambda name: len(pipelines[name].nodes), default=None)
