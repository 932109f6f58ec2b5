"""The release in service as entries of the catalog: each reads a file of one and the same release.

Which entries those are is in `FILES`. They take the place of the entries of the same names where
`model_in_use` is `champion` (`hooks.model_in_use`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, NoReturn

from kedro.io.core import AbstractDataset, DatasetError

from mnist_vae.jobs.release_files import DamagedRelease, Release, ReleaseDataset, ReleaseError

logger = logging.getLogger(__name__)

FILES = {
    "encoder": "encoder.keras",
    "decoder": "decoder.keras",
    "inference_encoder": "inference_encoder.keras",
    "encoder_onnx": "encoder.onnx",
    "decoder_onnx": "decoder.onnx",
    "training_summary": "training_summary.json",
    "training_history": "training_history.parquet",
    "metrics": "metrics.json",
    "run_manifest": "run_manifest.json",
    "train_images": "train_images.parquet",
    "validation_images": "validation_images.parquet",
    "test_images": "test_images.parquet",
    "anomaly_calibration": "anomaly_calibration.json",
    "scoring_calibration": "anomaly_calibration.json",
    "latent_embeddings": "latent_embeddings.parquet",
    "generated_images": "generated_images.parquet",
    "generated_sheet": "generated_sheet.png",
    "latent_manifold": "latent_manifold.png",
    "interpolations": "interpolations.png",
    "reconstruction_sheet": "reconstruction_sheet.png",
    "learning_curves": "learning_curves.json",
    "latent_scatter": "latent_scatter.json",
}
"""The file of a release that an entry of the catalog stands for."""

_NOT_OF_A_FILE = {"credentials", "validator", "optional"}


class ReleaseInUse:
    """The release in service, found once: all who ask it get the same one.

    The link is followed, and the checksums of the release are verified, at the first question. A
    promotion after that changes nothing for those who ask.
    """

    def __init__(self, releases: ReleaseDataset, retraining: str) -> None:
        """Create it; nothing is read before the first question.

        Args:
            releases: Loads the release in service.
            retraining: The command that puts one in service.
        """
        self._releases = releases
        self.retraining = retraining
        self._release: Release | None = None

    def follow(self) -> Release:
        """Return the release.

        Raises:
            ReleaseError: There is none, it is damaged, or what is in service is not a link.
        """
        if self._release is None:
            self._release = self._whole()
            logger.info("The model in use is the release in service, %s.", self._release.name)
        return self._release

    def _whole(self) -> Release:
        try:
            release = self._releases.load()
            if release is not None:
                release.check()
        except DamagedRelease as error:
            raise ReleaseError(
                f"The release in service cannot be used: {error.problem}; run `{self.retraining}`, "
                "which first puts the newest whole release in service."
            ) from error
        if release is None:
            raise ReleaseError(
                f"There is no model in service: expected a release in {self._releases.folder}, as "
                f"`model_in_use` is champion, received none; run `{self.retraining}`."
            )
        return release


class ReleaseFileDataset(AbstractDataset[NoReturn, Any]):
    """`ReleaseFileDataset` loads a file of the release in use, as the entry it stands for would.

    It is read-only: no file of a release ever changes. A `training_summary` gets the name of the
    release as `release`, and its `refine_steps`.
    """

    def __init__(self, *, name: str, config: dict[str, Any], in_use: ReleaseInUse) -> None:
        """Create the dataset; the release is not looked for yet.

        Args:
            name: Of the entry, one of `FILES`.
            config: The entry as the catalog has it, with a `filepath`.
            in_use: The release.
        """
        self._name = name
        self._filename = FILES[name]
        self._config = config
        self._in_use = in_use
        self.metadata = config.get("metadata")

    def check(self) -> None:
        """Refuse a release that cannot give what the entry stands for.

        Raises:
            ReleaseError: There is no whole release in service, or it is without this file.
        """
        self.file()

    def file(self) -> AbstractDataset[Any, Any]:
        """Return the dataset of the file in the folder of the release.

        Raises:
            ReleaseError: There is no whole release in service, or it is without this file.
        """
        release = self._in_use.follow()
        if self._filename not in release.manifest["files"]:
            raise ReleaseError(
                f"The release {release.name} has no {self._filename}, which `{self._name}` is read "
                f"from: expected it among its files, received {len(release.manifest['files'])} "
                f"others; put another in service with `{self._in_use.retraining}`."
            )
        return self._at(str(release.folder / self._filename))

    def load(self) -> Any:
        """Return the content of the file.

        Raises:
            ReleaseError: There is no whole release in service, or it is without this file.
        """
        data = self.file().load()
        if self._name == "training_summary":
            release = self._in_use.follow()
            return {**data, "release": release.name, "refine_steps": release.refine_steps}
        return data

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse: no file of a release ever changes.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(
            f"`{self._name}` is of the release in service, and read-only: expected it as an input, "
            "received data to save; run the pipeline with `kedro run`, or set `model_in_use` to "
            "last_trained in conf/*/globals.yml."
        )

    @property
    def preview(self) -> Callable[..., Any]:
        """That of the entry it stands for: Kedro-Viz asks for the type that it returns."""
        of_kind: Any = self._at(self._config["filepath"])

        @functools.wraps(of_kind.preview)
        def preview(**arguments: Any) -> Any:
            of_file: Any = self.file()
            return of_file.preview(**arguments)

        return preview

    def _at(self, path: str) -> AbstractDataset[Any, Any]:
        config = {key: value for key, value in self._config.items() if key not in _NOT_OF_A_FILE}
        return AbstractDataset.from_config(self._name, {**config, "filepath": path})

    def _exists(self) -> bool:
        try:
            self.check()
        except ReleaseError:
            return False
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filename": self._filename, "of": "the release in service"}

    def _init_config(self) -> dict[str, Any]:
        return {key: value for key, value in self._config.items() if key != "metadata"}
