"""The hook that looks at what a run asks for and will read, before any node runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io.core import AbstractVersionedDataset, DatasetError

from mnist_vae.config import check_configuration
from mnist_vae.data.idx import IdxDataset
from mnist_vae.data.keras_model import KerasModelDataset
from mnist_vae.encoding.batches import EngineError
from mnist_vae.encoding.engines import check_engine
from mnist_vae.jobs.in_use import ReleaseFileDataset
from mnist_vae.jobs.job import JOB_PIPELINES
from mnist_vae.jobs.names import in_environment
from mnist_vae.parameter_check import ParameterError
from mnist_vae.params import ModelParams, Parameters

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kedro.framework.context import KedroContext
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline

_MODELS = ("encoder", "decoder")


class Preflight:
    """Refuse a run with wrong parameters, without its inputs, or with another model than it names.

    Kedro checks the groups of parameters that the nodes of the run take; this checks all of them.
    What a retraining runs is asked for no inputs: its nodes say what they lack.
    """

    _parameters: Parameters

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Check the parameters as they are after environment and `--params`.

        Raises:
            click.ClickException: A parameter is wrong.
        """
        try:
            self._parameters = check_configuration(context.config_loader)
        except ParameterError as error:
            raise click.ClickException(str(error)) from error

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Look at the inputs of the run that none of its nodes makes.

        Raises:
            click.ClickException: Keras has another backend, an input or the engine is missing, a
                version is asked for where there are none, or a parameter contradicts the model that
                is loaded.
        """
        backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
        if backend != "tensorflow":
            raise click.ClickException(
                "Keras is asked to compute on another backend: expected KERAS_BACKEND to be "
                f"tensorflow, received {backend}; leave it out."
            )
        _check_versions(run_params["load_versions"] or (), catalog)
        if "params:embedding" in pipeline.inputs():
            try:
                check_engine(self._parameters.embedding)
            except EngineError as error:
                raise click.ClickException(str(error)) from error
        if (JOB_PIPELINES - {"scoring"}) & set(run_params["pipeline_names"] or ()):
            return
        env = in_environment(run_params["env"])
        inputs = sorted(pipeline.inputs())
        if not run_params["only_missing_outputs"]:  # Kedro skips nodes, and their inputs with them
            _check_given([catalog[name] for name in inputs if name in catalog])
            _check_made([name for name in inputs if name in catalog], catalog, env)
        asked = (run_params["runtime_params"] or {}).get("model") or {}
        models = [name for name in _MODELS if name in inputs and catalog.exists(name)]
        if models:
            _check_model(self._parameters.model, asked, models[0], catalog, env)


def _check_versions(names: Iterable[str], catalog: CatalogProtocol[Any, Any]) -> None:
    """Refuse `--load-versions` of an entry that has none: Kedro would read its one file."""
    for name in names:
        if not isinstance(catalog[name], AbstractVersionedDataset):
            raise click.ClickException(
                f"`--load-versions` names {name}: expected an entry with `versioned: true`, "
                "received one that has a single file; leave it out. Models with versions are "
                "releases: `model_in_use: champion` reads the one in service."
            )


def _check_given(datasets: list[Any]) -> None:
    """Refuse a run without a file, or a folder of files, that a person has to give."""
    from mnist_vae.data.archive import ImageArchiveDataset
    from mnist_vae.data.parquet_archive import ParquetArchiveDataset

    for dataset in datasets:
        try:
            if isinstance(dataset, ImageArchiveDataset | ParquetArchiveDataset):
                dataset.check()
            elif isinstance(dataset, IdxDataset) and not dataset.exists():
                dataset.load()  # it says where the file should be, and how to make it
        except DatasetError as error:
            raise click.ClickException(str(error)) from error


def _check_made(names: list[str], catalog: CatalogProtocol[Any, Any], env: str) -> None:
    """Refuse a run without what another pipeline makes."""
    makers = {name: _maker(name) for name in names}
    missing = [
        name
        for name in names
        if makers[name]
        and not getattr(catalog[name], "optional", False)
        and not catalog.exists(name)
    ]
    if not missing:
        return
    first = [maker for maker in pipelines if maker in {makers[name] for name in missing}]
    # What makes a model makes its images too.
    needed = [
        maker
        for maker in first
        if not any(
            set(pipelines[maker].nodes) < set(pipelines[other].nodes)
            for other in first
            if other != maker
        )
    ]
    described = ", ".join(f"{name} ({_path_of(catalog[name])})" for name in missing)
    raise click.ClickException(
        f"The inputs of the run are not there: expected {described}, received nothing; run "
        f"`kedro run --pipelines {','.join(needed)}{env}` first."
    )


def _maker(dataset: str) -> str | None:
    """Return the smallest registered pipeline that makes this dataset, if there is one."""
    makers = [
        name
        for name, pipeline in pipelines.items()
        if dataset in pipeline.all_outputs() and name not in JOB_PIPELINES
    ]
    return min(makers, key=lambda name: len(pipelines[name].nodes), default=None)


def _path_of(dataset: Any) -> str:
    """Return where the dataset would be."""
    described = dataset._describe()
    return str(described.get("filepath") or described.get("path") or described)


def _check_model(
    wanted: ModelParams,
    given: Iterable[str],
    model: str,
    catalog: CatalogProtocol[Any, Any],
    env: str,
) -> None:
    """Refuse parameters of `model` that the model which is loaded was not made with.

    Args:
        wanted: The parameters as they are after environment and `--params`.
        given: Those of them that `--params` has.
        model: The catalog entry of the model.
        catalog: The catalog of the run.
        env: The option of the environment, for commands.
    """
    dataset, maker = catalog[model], f"run --pipelines training{env}"
    in_service = isinstance(dataset, ReleaseFileDataset)
    if in_service:
        dataset, maker = dataset.file(), f"retrain{env}"
    if not isinstance(dataset, KerasModelDataset):
        return
    loaded: dict[str, Any] = dataset.architecture()
    if catalog.exists("training_summary"):
        loaded["reconstruction"] = catalog["training_summary"].load()["reconstruction"]
    # What conf has as it is by default asks for nothing; and to a release it is of the next one.
    default = (
        wanted.model_dump(mode="json") if in_service else ModelParams().model_dump(mode="json")
    )
    for key, value in wanted.model_dump(mode="json").items():
        from_conf = key in loaded and value != default[key]
        if (key in given or from_conf) and loaded.get(key) != value:
            expected = f"{loaded[key]}" if key in loaded else "none, as only a training reads it"
            raise click.ClickException(
                f"Parameter `model.{key}` contradicts the model that the run loads, "
                f"{_path_of(dataset)}: expected {expected}, received {value}; take it out of "
                f"{'--params' if key in given else 'conf'}, or make such a model first, with "
                f"`kedro {maker} --params model.{key}={value}`."
            )
