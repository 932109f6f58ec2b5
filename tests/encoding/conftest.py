"""A small model, some images, and their embeddings as the process of a run makes them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mnist_vae.data.fingerprints import fingerprint
from mnist_vae.data.images import ImageSet
from mnist_vae.encoding.embeddings import embed
from mnist_vae.params import EmbeddingParams


@dataclass(frozen=True)
class Work:
    """What there is to encode."""

    networks: tuple[Any, Any]
    summary: dict[str, Any]
    splits: list[ImageSet]

    def table(self, **params: Any) -> pa.Table:
        given = EmbeddingParams(**{"batch_size": 32, **params})
        return embed(*self.networks, self.splits, self.summary, given, 1)


@pytest.fixture(scope="session")
def work():
    from mnist_vae.vae.networks import build_decoder, build_encoder

    networks = tuple(
        build(latent_dim=2, hidden_units=(16,), seed=1) for build in (build_encoder, build_decoder)
    )
    random = np.random.default_rng(0)

    def images(n, first_id, split):
        return ImageSet(
            pixels=random.integers(0, 256, (n, 784), np.uint8),
            image_id=np.arange(first_id, first_id + n),
            split=np.full(n, split),
            label=np.where(np.arange(n) % 7 == 0, 255, np.arange(n) % 10).astype(np.uint8),
        )

    summary = {
        "model_version": fingerprint(*networks),
        "weights": {model.name: fingerprint(model) for model in networks},
        "reconstruction": "binary_crossentropy",
    }
    return Work(networks, summary, [images(2000, 0, "train"), images(301, 2000, "test")])


@pytest.fixture(scope="session")
def check_alike(work):
    """A check that an engine's embeddings are those of the run's own process."""

    def check(table: pa.Table, **params: Any) -> None:
        expected = work.table(**params)
        assert table.schema.equals(expected.schema, check_metadata=True)
        for name in table.column_names:
            if not pa.types.is_floating(table.schema.field(name).type):
                assert table[name].equals(expected[name]), name
            elif name in ("reconstruction", "kl", "anomaly_score"):  # nats, some hundred
                np.testing.assert_allclose(table[name], expected[name], rtol=1e-6, atol=1e-6)
            else:
                np.testing.assert_allclose(table[name], expected[name], rtol=0, atol=1e-6)
        lengths = [len(batch) for batch in table.to_batches()]
        assert lengths == [len(batch) for batch in expected.to_batches()], "rows a group of a file"

    return check
