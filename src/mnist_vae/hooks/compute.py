"""The hook that settles, before any work, what a run computes on: backend, and several workers."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.hooks import hook_impl
from kedro.io import MemoryDataset

from mnist_vae.backend import TENSORFLOW, BackendError, backend_name
from mnist_vae.cluster import (
    Cluster,
    ClusterError,
    follows,
    read_cluster,
    take_part,
    workers_in_tf_config,
)
from mnist_vae.params import Parameters, check_parameters
from mnist_vae.retraining.job import JOB_PIPELINES

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

logger = logging.getLogger(__name__)

_TRAINING = "training.train_vae"


class Compute:
    """Refuse a backend that is not there, and have the workers of a training find each other.

    Only the chief saves. What the nodes of another worker make on the way to the training stays in
    its memory, and its run ends as soon as the training has.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember the parameters, which `ParameterCheck` looks at."""
        self._parameters = context.config_loader["parameters"]

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Look at the environment, and wait for the other workers, if there are any.

        Raises:
            click.ClickException: The backend is not there, the environment does not name the
                workers, they do not find each other, or the run is none that several do together.
            SystemExit: With 0, where the run trains nothing and this is not the chief.
        """
        take_part(None)
        parameters = check_parameters(self._parameters)
        try:
            backend = backend_name()
            cluster = _cluster(parameters)
        except (BackendError, ClusterError) as error:
            raise click.ClickException(str(error)) from error
        if cluster is None:
            return
        trains = any(node.name == _TRAINING for node in pipeline.nodes)
        _refuse(cluster, parameters, run_params, backend, trains=trains)
        if trains:
            self._join(cluster, parameters, pipeline, catalog)
        elif not cluster.is_chief:
            logger.info(
                "This run trains nothing, and so the chief does it alone: worker %d is done.",
                cluster.number,
            )
            sys.exit(0)

    def _join(
        self,
        cluster: Cluster,
        parameters: Parameters,
        pipeline: Pipeline,
        catalog: CatalogProtocol[Any, Any],
    ) -> None:
        from mnist_vae.vae.workers import WorkersError, join

        logger.info(
            "Waiting for the %d workers of the training: %s. This one is %s.",
            len(cluster),
            ", ".join(cluster.addresses),
            "the chief, which saves" if cluster.is_chief else f"worker {cluster.number}",
        )
        try:
            workers = join(cluster, parameters.workers.timeout)
        except WorkersError as error:
            raise click.ClickException(str(error)) from error
        training = parameters.training
        if training.jit_compile or training.steps_per_execution > 1:
            logger.info(
                "Several workers train without XLA and a step at a time, as TensorFlow's "
                "collectives need it: `training.jit_compile` and `training.steps_per_execution` "
                "are not followed."
            )
        take_part(cluster, workers)
        if not cluster.is_chief:
            _keep_in_memory(pipeline.all_outputs(), catalog)

    @hook_impl(tryfirst=True)
    def before_dataset_saved(self, node: Node) -> None:
        """End the run of a worker that is not the chief, whose training is done.

        Raises:
            SystemExit: With 0.
        """
        if follows() and node.name == _TRAINING:
            logger.info("The training is done, and the chief saves the model: this worker is done.")
            sys.exit(0)


def _cluster(parameters: Parameters) -> Cluster | None:
    source = parameters.workers.cluster
    if source == "slurm":
        import mnist_vae.vae  # noqa: F401 - TensorFlow, which reads Slurm's variables, quietly
    elif source == "none" and workers_in_tf_config() > 1:
        logger.warning(
            "TF_CONFIG names %d workers, and `workers.cluster` is none: this process trains alone, "
            "and saves. Set it to tf_config to have them train together.",
            workers_in_tf_config(),
        )
    return read_cluster(source)


def _refuse(
    cluster: Cluster,
    parameters: Parameters,
    run_params: dict[str, Any],
    backend: str,
    *,
    trains: bool,
) -> None:
    """Refuse what several workers cannot do together."""
    jobs = JOB_PIPELINES & set(run_params["pipeline_names"] or ())
    if jobs:
        raise click.ClickException(
            "A job is the work of one process: expected `workers.cluster` to be none beside the "
            f"pipeline {', '.join(sorted(jobs))}, received {parameters.workers.cluster}; run it "
            "with `--params workers.cluster=none`, in one process."
        )
    if not trains:
        return
    if backend != TENSORFLOW:
        raise click.ClickException(
            f"Several workers train on TensorFlow alone: expected KERAS_BACKEND to be {TENSORFLOW}"
            f" beside `workers.cluster`, received {backend}; leave one of them out."
        )
    runner = str(run_params["runner"])
    if runner != "None" and "SequentialRunner" not in runner:
        raise click.ClickException(
            "A worker is one process from start to end: expected the SequentialRunner beside "
            f"`workers.cluster`, received {runner}; leave out --runner."
        )
    if run_params["only_missing_outputs"]:
        raise click.ClickException(
            "Every worker has to come to the training: expected a run of all its nodes beside "
            "`workers.cluster`, received --only-missing-outputs, by which some would leave it "
            "out; use --from-nodes instead."
        )
    batch_size = parameters.training.batch_size
    if batch_size % len(cluster):
        raise click.ClickException(
            f"A batch is shared equally: expected `training.batch_size` to be a multiple of the "
            f"{len(cluster)} workers, received {batch_size}; choose another one."
        )


def _keep_in_memory(names: set[str], catalog: CatalogProtocol[Any, Any]) -> None:
    """Have the nodes of this run hand their outputs to each other, and save none of them."""
    log = logging.getLogger("kedro.io.data_catalog")  # it warns of each entry replaced
    before, log.disabled = log.disabled, True
    try:
        for name in sorted(names):
            catalog[name] = MemoryDataset(copy_mode="assign")
    finally:
        log.disabled = before
