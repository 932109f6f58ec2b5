"""The hook that logs the nodes of a run, and at its end metrics and pictures."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from mnist_vae.config import entry_paths
from mnist_vae.data.models import TrainingBackupDataset
from mnist_vae.data.origin import measure

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
        made = {name: self._files.get(name) for name in sorted(pipeline.all_outputs())}
        if "metrics" in made:
            metrics = catalog.load("metrics")
            loss, test = measure(metrics["reconstruction_term"]), metrics["splits"]["test"]
            error = test["negative_elbo_standard_error"]
            logger.info(
                "Result: %s %s an image, on %s test images. %s",
                loss.name,
                f"{test['negative_elbo']:.2f} ± {error:.2f} {loss.unit}".rstrip(),
                f"{test['n_images']:,}",
                metrics["data"],
            )
        if pictures := [path for path in made.values() if path and path.suffix == ".png"]:
            names = ", ".join(path.name for path in pictures)
            logger.info("Pictures in %s: %s", os.path.relpath(pictures[0].parent), names)
        if page := made.get("model_report"):
            logger.info("All of it on one page: %s", os.path.relpath(page))
