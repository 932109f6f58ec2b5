"""What a small training makes, for each `RECIPE_VERSION`: a change of it retrains production.

The images of a split are compared exactly, figures within what processors differ by. Other
versions of the libraries may make other models; they are part of the fingerprint themselves.
"""

import zlib
from importlib.metadata import version

import numpy as np
import pytest

from mnist_vae.data.images import ImageSet
from mnist_vae.data.origin import RECIPE_VERSION
from mnist_vae.params import ModelParams, RetrainingParams, SplitParams, TrainingParams
from mnist_vae.pipelines.data.nodes import split_images
from mnist_vae.pipelines.retraining.candidate import set_judge_apart
from mnist_vae.recipe import train

LIBRARIES = {"keras": "3.15", "tensorflow": "2.21", "numpy": "2."}

# Of the three splits, and of the images that a candidate learns from and is judged by.
IMAGES = {1: ["dce71dd0", "942722a8", "448b2e0b", "0d2cea69", "3dc30431"]}
# For each recipe the norms of the weights of encoder and decoder after three epochs.
TRAINED = {
    1: {
        "default": (
            [7.9599, 0.062235, 4.4245, 0.048926, 1.8644, 0.032581, 2.0814, 0.021031],
            [4.1669, 3.7598, 4.5667, 0.091111, 8.5922, 0.66137],
        ),
        "refined": (
            [7.9817, 0.06843, 4.4196, 0.047887, 1.8607, 0.031673, 2.081, 0.021083],
            [4.1622, 3.7579, 4.55, 0.089125, 8.4246, 0.6331],
        ),
        "muon": (
            [7.9556, 0.060153, 4.4227, 0.04729, 1.8605, 0.029225, 2.0811, 0.020847],
            [4.1458, 3.7577, 4.5665, 0.091286, 8.5834, 0.66287],
        ),
    }
}

ASK = "a model that is trained now differs: raise RECIPE_VERSION, and note here what it makes"


@pytest.fixture(scope="module")
def splits():
    """Blots of an ink that differs by label."""
    random = np.random.default_rng(0)
    label = np.arange(400, dtype=np.uint8) % 10
    ink = random.random((400, 28, 28)) < (label[:, None, None] + 1) / 20
    pixels = np.where(ink, random.integers(0, 256, ink.shape), 0).astype(np.uint8)
    images = ImageSet(pixels.reshape(-1, 784), np.arange(400), np.full(400, "train"), label)
    return split_images(images, SplitParams(), 42)


def test_the_images_that_a_model_is_made_of_are_those_of_the_recipe_version(splits):
    sets = [*splits, *set_judge_apart(splits[0], RetrainingParams(), 42)]
    found = [f"{zlib.crc32(each.image_id.tobytes() + each.pixels.tobytes()):08x}" for each in sets]
    assert found == IMAGES[RECIPE_VERSION], ASK


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [("default", {}), ("refined", {"refine_steps": 2}), ("muon", {"optimizer": "muon"})],
)
def test_a_small_training_makes_what_the_recipe_version_says(splits, recipe, changes):
    if not all(version(name).startswith(known) for name, known in LIBRARIES.items()):
        pytest.skip(f"the recorded figures are those of {LIBRARIES}")
    params = TrainingParams(epochs=3, batch_size=64, jit_compile=False, **changes)
    model = ModelParams(latent_dim=3, hidden_units=(32, 16))
    manifest = {"source": "", "statement": ""}
    trained = train(*splits[:2], manifest, model, params, 42, None)
    weights = [*trained.encoder.trainable_weights, *trained.decoder.trainable_weights]
    found = [np.linalg.norm(weight) for weight in weights]
    expected = np.concatenate(TRAINED[RECIPE_VERSION][recipe])
    assert found == pytest.approx(expected, rel=3e-4), ASK
