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
from mnist_vae.pipelines.candidate.nodes import set_judge_apart
from mnist_vae.pipelines.data.nodes import split_images
from mnist_vae.recipe import new_networks, train

LIBRARIES = {"keras": "3.15", "tensorflow": "2.21", "numpy": "2."}

IMAGES = {
    1: {
        "train": "dce71dd0",
        "validation": "942722a8",
        "test": "448b2e0b",
        "learning": "0d2cea69",
        "judge": "3dc30431",
    }
}
# For each recipe loss, KL and validation loss of three epochs, and the norm of each weight.
TRAINED = {
    1: {
        "default": (
            [527.2748, 480.8797, 450.3293],
            [0.2946357, 0.575524, 1.18251],
            [500.9648, 472.2313, 440.785],
            [7.959923, 0.06223503, 4.424513, 0.04892622, 1.864352, 0.03258108, 2.081392],
            [0.02103143, 4.166918, 3.759816, 4.56666, 0.09111054, 8.592237, 0.6613654],
        ),
        "refined": (
            [516.0475, 433.8832, 389.1303],
            [3.749927, 9.362049, 11.4013],
            [505.0349, 460.7215, 450.0418],
            [7.981738, 0.06843037, 4.419591, 0.04788711, 1.860652, 0.0316731, 2.080972],
            [0.02108286, 4.162241, 3.7579, 4.550039, 0.08912542, 8.424572, 0.6330986],
        ),
        "muon": (
            [527.7872, 487.4943, 464.4125],
            [0.2926217, 0.4816178, 0.8642731],
            [503.4608, 482.0239, 457.7183],
            [7.955574, 0.06015282, 4.422726, 0.04728965, 1.860527, 0.02922482, 2.081145],
            [0.02084713, 4.145783, 3.757673, 4.566525, 0.09128624, 8.583395, 0.6628658],
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


def checksum(images):
    return f"{zlib.crc32(images.image_id.tobytes() + images.pixels.tobytes()):08x}"


def test_the_images_that_a_model_is_made_of_are_those_of_the_recipe_version(splits):
    learning, judge = set_judge_apart(splits[0], RetrainingParams(), 42)
    found = dict(zip(("train", "validation", "test"), map(checksum, splits), strict=True))
    found |= {"learning": checksum(learning), "judge": checksum(judge)}
    assert found == IMAGES[RECIPE_VERSION], ASK


@pytest.mark.parametrize("recipe", ["default", "refined", "muon"])
def test_a_small_training_makes_what_the_recipe_version_says(splits, recipe):
    others = {name: version(name) for name, known in LIBRARIES.items()}
    if any(not others[name].startswith(known) for name, known in LIBRARIES.items()):
        pytest.skip(f"the recorded figures are those of {LIBRARIES}, not of {others}")
    changes = {"default": {}, "refined": {"refine_steps": 2}, "muon": {"optimizer": "muon"}}[recipe]
    params = TrainingParams(epochs=3, batch_size=64, jit_compile=False, **changes)
    model = ModelParams(latent_dim=3, hidden_units=(32, 16))
    networks = new_networks(model, 42, 784)
    manifest = {"source": "", "statement": ""}
    trained = train(*networks, *splits[:2], manifest, model, params, 42, None)
    found = [trained.history[name] for name in ("loss", "kl", "val_loss")]
    weights = [*trained.encoder.trainable_weights, *trained.decoder.trainable_weights]
    found.append([np.linalg.norm(weight) for weight in weights])
    expected = np.concatenate(TRAINED[RECIPE_VERSION][recipe])
    assert np.concatenate(found) == pytest.approx(expected, rel=3e-4), ASK
