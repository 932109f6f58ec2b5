"""The hook that removes the state of a training that is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from mnist_vae.data.backup import TrainingBackupDataset

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline


class TrainingBackups:
    """Keep the state of a training until a run has ended well: its model is saved by then.

    A run that fails after the training, as on a full disk, does not train again the next time.
    `kedro retrain` removes them itself, when its candidate is promoted or declined.
    """

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Remove those that the pipeline's trainings have written."""
        if "candidate" in (run_params["pipeline_names"] or ()):
            return
        for name in pipeline.inputs():
            dataset = catalog.get(name)
            if isinstance(dataset, TrainingBackupDataset):
                dataset.load().clear()
