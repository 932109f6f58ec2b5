"""A Keras model that a run makes only where it is asked to."""

from __future__ import annotations

from mnist_vae.datasets.keras_model import KerasModel, KerasModelDataset


class OptionalModelDataset(KerasModelDataset):
    """`OptionalModelDataset` saves and loads a model by its name, or none: Kedro saves no None.

    A save without a model leaves the file that is there, and a load without a file gives no model.

    Examples:
        ```yaml
        feature_classifier:
          type: mnist_vae.datasets.optional_model.OptionalModelDataset
          filepath: data/06_models/feature_classifier.keras
        ```
    """

    def load(self) -> dict[str, KerasModel]:
        """Return the model by its name, or nothing where there is no file.

        Raises:
            DatasetError: The file holds code that Keras refuses to run.
        """
        if not self._exists():
            return {}
        model = super().load.__wrapped__(self)  # type: ignore[attr-defined]
        return {model.name: model}

    def save(self, data: dict[str, KerasModel]) -> None:
        """Write the model, atomically, if there is one."""
        for model in data.values():
            super().save.__wrapped__(self, model)  # type: ignore[attr-defined]
