"""Another data set, if somebody has put one there."""

from __future__ import annotations

import logging

from mnist_vae.datasets.archive import ImageArchiveDataset
from mnist_vae.datasets.archive_parts import ImageArchive

logger = logging.getLogger(__name__)


class OutlierArchiveDataset(ImageArchiveDataset):
    """`ImageArchiveDataset` of a folder that need not be there: then it loads None.

    A folder with some of the four files, or a damaged one, is an error all the same.

    Examples:
        ```yaml
        outlier_images:
          type: mnist_vae.datasets.outliers.OutlierArchiveDataset
          name: Fashion-MNIST
          path: data/01_raw/outliers
          order: [folder]
          mirrors: []
          files:
            train_images: {name: train-images-idx3-ubyte}
            train_labels: {name: train-labels-idx1-ubyte}
            test_images: {name: t10k-images-idx3-ubyte}
            test_labels: {name: t10k-labels-idx1-ubyte}
        ```
    """

    def load(self) -> ImageArchive | None:  # type: ignore[override]
        """Return the images, or None where the folder has none of the files.

        Raises:
            IdxError: A file is damaged, or not what the entry asks for.
            DatasetError: The folder has some of the files, and not all.
        """
        if len(self._missing()) == len(self._files):
            logger.info(
                "There is no other data set in %s: the protocol other_data is skipped.",
                self._folder,
            )
            return None
        return super().load()
