"""Nodes on images that stay on disk: what they return is what they return of images in memory."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mnist_vae.data import images as images_module
from mnist_vae.data import streamed
from mnist_vae.data.fingerprints import fingerprint
from mnist_vae.params import (
    AnomalyParams,
    DenoisingParams,
    EmbeddingParams,
    EvaluationParams,
    GenerationParams,
)
from mnist_vae.pipelines.anomaly import findings
from mnist_vae.pipelines.anomaly import nodes as anomaly
from mnist_vae.pipelines.denoising import nodes as denoising
from mnist_vae.pipelines.embedding import nodes as embedding
from mnist_vae.pipelines.evaluation import nodes as evaluation
from mnist_vae.pipelines.generation import arithmetic
from mnist_vae.pipelines.generation import nodes as generation
from tests.streamed_sets import on_disk

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
def memory(request, make_images):
    return (
        make_images(120, "train", 0, request.param),
        make_images(40, "validation", 200, request.param),
        make_images(60, "test", 300, request.param),
    )


@pytest.fixture
def disk(memory, tmp_path):
    return tuple(
        on_disk(images, tmp_path / f"{number}.parquet", pixels="float32")
        for number, images in enumerate(memory)
    )


@pytest.fixture
def summary(networks, memory):
    return {
        "model_version": fingerprint(*networks),
        "weights": {model.name: fingerprint(model) for model in networks},
        "images": {"train": memory[0].digest(), "validation": memory[1].digest()},
        "reconstruction": "binary_crossentropy",
        "statement": "Trained on 120 images.",
        "data_source": "parquet",
    }


def evaluate(networks, splits, summary):
    return evaluation.evaluate_vae(*networks, *splits, summary, EvaluationParams(z_samples=2), SEED)


def embed(networks, splits, summary):
    return embedding.embed_splits(
        *networks, *splits, summary, EmbeddingParams(batch_size=50), SEED
    ).read_all()


def measure_label_accuracy(networks, splits, summary):
    return evaluation.measure_label_accuracy(
        *networks, *splits, summary, EvaluationParams(neighbours=3), SEED
    )


def calibrate(networks, splits, summary):
    return anomaly.calibrate_anomalies(*networks, *splits[:2], summary, ANOMALY, SEED)


def score(networks, splits, summary):
    given = calibrate(networks, splits, summary), ANOMALY, SEED
    return anomaly.score_anomalies(*networks, splits[0], splits[2], summary, *given).read_all()


def draw_anomalies(networks, splits, summary):
    scores = score(networks, splits, summary).to_pandas()
    calibration = calibrate(networks, splits, summary)
    return findings.draw_anomaly_sheet(scores, splits[2], calibration, summary, ANOMALY)


def denoise(networks, splits, summary):
    params = DenoisingParams(
        max_images=12, refine_steps=1, draws=1, gaussian=[0.5], salt_and_pepper=[], masking=[],
        blur=[],
    )  # fmt: skip
    scores, examples = denoising.denoise_images(*networks, splits[2], summary, params, SEED)
    return scores.assign(digest=examples.digest())


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
    evaluate, embed, measure_label_accuracy, calibrate, score, draw_anomalies, denoise, generate,
    reconstruct, interpolate, draw_manifold, draw_arithmetic,
]  # fmt: skip


def as_bytes(result):
    """Return what a node returned as something that is equal where it is."""
    if isinstance(result, pd.DataFrame):
        return result.to_csv()
    if isinstance(result, pa.Table):
        return result.to_pandas().to_csv(), result.schema.metadata
    if hasattr(result, "tobytes"):  # a picture
        return result.tobytes()
    return repr(result)


@pytest.mark.parametrize("node", NODES)
def test_a_node_returns_the_same_of_streamed_images(networks, memory, disk, summary, node):
    results = [node(networks, splits, summary) for splits in (disk, memory)]
    assert as_bytes(results[0]) == as_bytes(results[1])


# These have limits of their own, which do not grow with the set: a sheet, and 20,000 images.
WITH_A_LIMIT = {draw_anomalies, generate}


@pytest.mark.parametrize("node", [node for node in NODES if node not in WITH_A_LIMIT])
def test_no_node_asks_for_more_pixels_at_once_than_it_may(
    networks, disk, summary, node, monkeypatch
):
    modules = [images_module, streamed, evaluation, generation, arithmetic]
    for module in [*modules, __import__("mnist_vae.encoding.anomalies").anomalies]:
        monkeypatch.setattr(module, "AT_ONCE", 55)
    node(networks, disk, summary)


def test_metrics_of_parts_are_those_of_the_whole(networks, memory, summary, monkeypatch):
    whole = evaluate(networks, memory, summary)
    monkeypatch.setattr(evaluation, "_PART", 16)
    params = EvaluationParams(z_samples=2, batch_size=16)
    parts = evaluation.evaluate_vae(*networks, *memory, summary, params, SEED)
    same = evaluation.evaluate_vae(
        *networks, *memory, summary, params.model_copy(update={"batch_size": 1024}), SEED
    )
    for split, figures in whole["splits"].items():
        for name, value in figures.items():
            if value is not None:
                np.testing.assert_allclose(parts["splits"][split][name], value, rtol=2e-2)
                np.testing.assert_allclose(same["splits"][split][name], value, rtol=1e-12)
