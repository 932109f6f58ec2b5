"""Encoding in the process of the run: the default."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from mnist_vae.engines.encoding import BatchEncoder


class InProcess:
    """Encodes a batch when it is asked for, with the models that the run has loaded."""

    def __init__(self, encoder: BatchEncoder) -> None:
        self._encoder = encoder

    def encode(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the embeddings of each batch."""
        return map(self._encoder, batches)
