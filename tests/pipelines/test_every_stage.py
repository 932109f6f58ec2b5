"""What holds for the nodes of every stage: how much they read at once, and what they refuse."""

import pytest

from mnist_vae import engines
from mnist_vae.data import images
from mnist_vae.params import (
    AnomalyParams,
    DenoisingParams,
    EmbeddingParams,
    EvaluationParams,
    GenerationParams,
)
from mnist_vae.pipelines.anomaly import nodes as anomaly
from mnist_vae.pipelines.denoising import nodes as denoising
from mnist_vae.pipelines.export.nodes import export_models
from mnist_vae.pipelines.generation import arithmetic
from mnist_vae.pipelines.generation import nodes as generation
from mnist_vae.pipelines.training import nodes as evaluation
from tests.model_files import summary_of
from tests.vae.models import small

SEED = 1
SHEETS = GenerationParams(n_images=4, manifold_steps=2, interpolation_pairs=2)
ANOMALY = AnomalyParams(refine_steps=1, reference_images=20)
NOISE = DenoisingParams(
    max_images=12, refine_steps=1, draws=1, gaussian=[0.5], salt_and_pepper=[], masking=[], blur=[]
)


@pytest.fixture(scope="module")
def networks():
    """Of more dimensions than a sheet has."""
    return small(3, hidden_units=(8,))


@pytest.fixture
def given(networks, splits):
    """What a node is given: networks, images and a summary that a test may change."""
    facts = {"statement": "Trained on 60 images.", "data_source": "parquet"}
    return networks, splits, summary_of(networks, *splits[:2], **facts)


def evaluate(networks, splits, summary):
    params = EvaluationParams(z_samples=2, batch_size=20)
    evaluation.evaluate_vae(*networks, *splits, summary, params, SEED)


def embed(networks, splits, summary):
    engines.embed(*networks, summary, EmbeddingParams(batch_size=20), SEED, *splits)


def score(networks, splits, summary):
    calibration = anomaly.calibrate_anomalies(*networks, *splits[:2], summary, ANOMALY, SEED)
    how = calibration, ANOMALY, SEED
    anomaly.score_anomalies(*networks, splits[0], splits[2], summary, *how)


def denoise(networks, splits, summary):
    denoising.restore_images(*networks, splits[2], summary, NOISE, SEED)


def export(networks, splits, summary):
    export_models(*networks, summary, splits[1])


def draw(networks, splits, summary):
    generation.generate(*networks, *splits[::2], summary, SHEETS, SEED)
    arithmetic.draw_latent_arithmetic(*networks, splits[2], summary, SEED)


@pytest.mark.parametrize("node", [evaluate, embed, score, denoise, draw])
def test_no_node_asks_for_more_pixels_at_once_than_it_may(given, node, monkeypatch):
    for module in (images, evaluation, generation, arithmetic, anomaly):
        monkeypatch.setattr(module, "AT_ONCE", 25)
    monkeypatch.setattr(anomaly, "BATCH_SIZE", 20)
    node(*given)


@pytest.mark.parametrize("node", [evaluate, embed, score, denoise, draw, export])
def test_every_node_refuses_networks_of_another_training(given, node):
    given[2]["weights"]["decoder"] = "another"
    message = r"^The decoder does not belong to the training summary: expected the weights another"
    with pytest.raises(ValueError, match=message):
        node(*given)


@pytest.mark.parametrize("node", [evaluate, embed, score])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_what_reads_the_splits_refuses_those_of_another_training(given, node, split):
    given[2]["images"][split] = "another"
    with pytest.raises(ValueError, match=f"The {split} images changed after the model was"):
        node(*given)
