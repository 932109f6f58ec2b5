"""Nodes on more images than memory holds as floats at once."""

import numpy as np
import pytest

from mnist_vae.data import images, maps
from mnist_vae.data.fingerprints import fingerprint
from mnist_vae.encoding import anomalies
from mnist_vae.params import (
    AnomalyParams,
    DenoisingParams,
    EmbeddingParams,
    EvaluationParams,
    GenerationParams,
)
from mnist_vae.pipelines.anomaly import nodes as anomaly
from mnist_vae.pipelines.denoising import nodes as denoising
from mnist_vae.pipelines.embedding import nodes as embedding
from mnist_vae.pipelines.evaluation import nodes as evaluation
from mnist_vae.pipelines.generation import arithmetic
from mnist_vae.pipelines.generation import nodes as generation

SEED = 1
SHEETS = GenerationParams(
    n_images=4, manifold_steps=2, interpolation_pairs=2, sampler="mixture", mixture_components=2
)
ANOMALY = AnomalyParams(refine_steps=1, reference_images=50)


@pytest.fixture(scope="module")
def networks():
    from mnist_vae.vae.networks import build_decoder, build_encoder

    return [
        build(latent_dim=3, hidden_units=(8,), seed=1) for build in (build_encoder, build_decoder)
    ]


@pytest.fixture(params=[True, False], ids=["labelled", "unlabelled"])
def splits(request, make_images):
    return (
        make_images(120, "train", 0, request.param),
        make_images(40, "validation", 200, request.param),
        make_images(60, "test", 300, request.param),
    )


@pytest.fixture
def summary(networks, splits):
    return {
        "model_version": fingerprint(*networks),
        "weights": {model.name: fingerprint(model) for model in networks},
        "images": {"train": splits[0].digest(), "validation": splits[1].digest()},
        "reconstruction": "binary_crossentropy",
        "statement": "Trained on 120 images.",
        "data_source": "parquet",
    }


def evaluate(networks, splits, summary, batch_size=50):
    params = EvaluationParams(z_samples=2, batch_size=batch_size)
    return evaluation.evaluate_vae(*networks, *splits, summary, params, SEED)


def embed(networks, splits, summary):
    return embedding.embed_splits(*networks, *splits, summary, EmbeddingParams(batch_size=50), SEED)


def calibrate(networks, splits, summary):
    return anomaly.calibrate_anomalies(*networks, *splits[:2], summary, ANOMALY, SEED)


def score(networks, splits, summary):
    given = calibrate(networks, splits, summary), ANOMALY, SEED
    return anomaly.score_anomalies(*networks, splits[0], splits[2], summary, *given)


def draw_anomalies(networks, splits, summary):
    scores = score(networks, splits, summary).to_pandas()
    calibration = calibrate(networks, splits, summary)
    return anomaly.describe_anomalies(scores, splits[2], calibration, summary, ANOMALY)[1]


def denoise(networks, splits, summary):
    params = DenoisingParams(
        max_images=12, refine_steps=1, draws=1, gaussian=[0.5], salt_and_pepper=[], masking=[],
        blur=[],
    )  # fmt: skip
    scores, sheet = denoising.denoise_images(*networks, splits[2], summary, params, SEED)
    return scores.assign(sheet=[sheet.tobytes()] * len(scores))


def generate(networks, splits, summary):
    return generation.generate_images(*networks, splits[0], summary, SHEETS, SEED).digest()


def reconstruct(networks, splits, summary):
    return generation.draw_reconstruction_sheet(*networks, splits[2], summary, SHEETS)


def interpolate(networks, splits, summary):
    return generation.draw_interpolations(*networks, splits[2], summary, SHEETS, SEED)


def draw_manifold(networks, splits, summary):
    return generation.draw_latent_manifold(*networks, splits[2], summary, SHEETS)


def draw_arithmetic(networks, splits, summary):
    return arithmetic.draw_latent_arithmetic(*networks, splits[2], summary, SEED)


NODES = [
    evaluate, embed, calibrate, score, draw_anomalies, denoise, generate,
    reconstruct, interpolate, draw_manifold, draw_arithmetic,
]  # fmt: skip


# These have limits of their own, which do not grow with the set: a sheet, and 20,000 images.
WITH_A_LIMIT = {draw_anomalies, generate}


@pytest.mark.parametrize("node", [node for node in NODES if node not in WITH_A_LIMIT])
def test_no_node_asks_for_more_pixels_at_once_than_it_may(
    networks, splits, summary, node, monkeypatch
):
    for module in (maps, images, evaluation, generation, arithmetic, anomalies):
        monkeypatch.setattr(module, "AT_ONCE", 55)
    for module in (anomalies, anomaly):
        monkeypatch.setattr(module, "BATCH_SIZE", 50)
    node(networks, splits, summary)


def test_metrics_of_batches_are_those_of_the_whole(networks, splits, summary):
    whole, parts = (evaluate(networks, splits, summary, size)["splits"] for size in (1024, 16))
    for split, figures in whole.items():
        for name, value in figures.items():
            if value is not None:
                np.testing.assert_allclose(parts[split][name], value, rtol=2e-2)
