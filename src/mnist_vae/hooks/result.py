"""The hook that logs the nodes of a run, and at its end metrics and pictures."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from mnist_vae.config import entry_paths
from mnist_vae.data.models import TrainingBackupDataset
from mnist_vae.data.origin import measure

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

logger = logging.getLogger(__name__)


class Result:
    """Name each node as it begins; after a run that ended well report it and remove its state."""

    _files: dict[str, Path]

    @hook_impl
    def after_catalog_created(self, conf_catalog: dict[str, Any]) -> None:
        """Note where the files of the entries are."""
        self._files = entry_paths(conf_catalog)

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Log its name: Kedro's own line has all its inputs and outputs."""
        logger.info("Running node: %s", node.short_name)

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Do both."""
        if "candidate" in (run_params["pipeline_names"] or ()):
            return  # `kedro retrain` removes the state when it has decided
        for name in pipeline.inputs():
            dataset = catalog.get(name)
            if isinstance(dataset, TrainingBackupDataset):
                dataset.load().clear()
        made = pipeline.all_outputs()
        if "metrics" in made:
            logger.info("Result: %s", _result(catalog.load("metrics")))
        files = [self._files[name] for name in sorted(made & set(self._files))]
        if pictures := [path for path in files if path.suffix == ".png"]:
            names = ", ".join(path.name for path in pictures)
            logger.info("Pictures in %s: %s", _from_here(pictures[0].parent), names)
        if "model_report" in made:
            logger.info("All of it on one page: %s", _from_here(self._files["model_report"]))


def _result(metrics: dict[str, Any]) -> str:
    test = metrics["splits"]["test"]
    loss = measure(metrics["reconstruction_term"])
    unit = f" {loss.unit}" if loss.unit else ""
    return (
        f"{loss.name} {test['negative_elbo']:.2f} ± "
        f"{test['negative_elbo_standard_error']:.2f}{unit} an image, on "
        f"{test['n_images']:,} test images. {metrics['data']}"
    )


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
