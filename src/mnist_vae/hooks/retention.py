"""The hook that removes old trained models of runs that train."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from mnist_vae.datasets.release_files import RELEASES
from mnist_vae.datasets.versions import remove_old_versions
from mnist_vae.params import check_parameters

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline

logger = logging.getLogger(__name__)

_MODEL = ("encoder", "decoder", "training_summary")
_EXPORTED = ("inference_encoder", "encoder_onnx", "decoder_onnx")


class Retention:
    """Keep the last trained models (`retention.trained_models`), and those that are named.

    A model is named by a release, or by one of as many run manifests. It is removed by the run that
    trained a newer one, after its last node; that it cannot be is one warning.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember the parameters."""
        self._parameters = context.config_loader["parameters"]

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> None:
        """Remove what is no longer to be kept, where this run has trained a model."""
        keep = check_parameters(self._parameters).retention.trained_models
        if keep is None or not set(_MODEL) <= pipeline.all_outputs():
            return
        try:
            self._remove(keep, catalog)
        except Exception as error:
            logger.warning(
                "Old trained models were not removed (%s); the run itself is done.", error
            )

    def _remove(self, keep: int, catalog: CatalogProtocol[Any, Any]) -> None:
        files = [_local_path(catalog, name) for name in _MODEL]
        exported = [_local_path(catalog, name) for name in _EXPORTED]
        manifests = _local_path(catalog, "run_manifest")
        releases = catalog["champion"].folder / RELEASES
        newest = sorted(manifests.glob(f"*/{manifests.name}"), reverse=True)[:keep]
        named = {_model_version(path) for path in (*newest, *releases.glob("*/release.json"))} - {
            None
        }

        def is_needed(version: str) -> bool:
            return _model_version(files[-1] / version / files[-1].name) in named

        for version in remove_old_versions(files, keep, is_needed, exported):
            logger.info("Removed the trained model of %s: %d newer ones are kept.", version, keep)


def _local_path(catalog: CatalogProtocol[Any, Any], name: str) -> Path:
    """Return where the versions of an entry are.

    Raises:
        ValueError: It is not on a local disk, or has no versions.
    """
    dataset = catalog[name]
    if dataset._protocol != "file" or dataset._version is None:
        raise ValueError(
            f"expected the entry `{name}` to be versioned and on a local disk, received "
            f"{dataset}; set `retention.trained_models` to null"
        )
    return Path(dataset._filepath)


def _model_version(path: Path) -> str | None:
    """Return the model that a JSON file names, or None where it names none that can be read."""
    try:
        version = json.loads(path.read_text(encoding="utf-8"))["model_version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(version)
