"""The hook that says at the end of a run what came of it, and where to look."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from mnist_vae.data.origin import measure
from mnist_vae.data.pictures import PictureDataset

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline

logger = logging.getLogger(__name__)


class Result:
    """End the log of a run with the metrics that it computed and the pictures that it drew.

    A job ends with a line of its own, and its candidate's pictures are soon those of a release.
    """

    @hook_impl(trylast=True)
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> None:
        """Write them."""
        made = pipeline.all_outputs()
        if "metrics" in made:
            logger.info("Result: %s", _result(catalog.load("metrics")))
        own = sorted(name for name in made if not name.startswith("candidate_"))
        pictures = [_path(catalog, name) for name in own]
        if found := [path for path in pictures if path is not None]:
            names = ", ".join(path.name for path in found)
            logger.info("Pictures in %s: %s", found[0].parent, names)
        if "model_report" in made:
            logger.info("All of it on one page: %s", _from_here(catalog["model_report"]))


def _result(metrics: dict[str, Any]) -> str:
    """Return the loss of the test images, of which model it is, and on which data."""
    test = metrics["splits"]["test"]
    loss = measure(metrics["reconstruction_term"])
    unit = f" {loss.unit}" if loss.unit else ""
    return (
        f"{loss.name} {test['negative_elbo']:.2f} ± "
        f"{test['negative_elbo_standard_error']:.2f}{unit} an image, on "
        f"{test['n_images']:,} test images. {metrics['data']}"
    )


def _path(catalog: CatalogProtocol[Any, Any], name: str) -> Path | None:
    """Return where a picture is; None for what is none."""
    dataset = catalog.get(name)
    if not isinstance(dataset, PictureDataset):
        return None
    return _from_here(dataset)


def _from_here(dataset: Any) -> Path:
    """Return where a file is, relative to the current folder if it is below."""
    path = Path(str(dataset._filepath))
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
