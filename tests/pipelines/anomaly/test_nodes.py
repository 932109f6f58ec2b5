"""Nodes of the pipeline `anomaly` on models and images that are made for them."""

import pytest

from mnist_vae.fingerprints import fingerprint
from mnist_vae.params import AnomalyParams
from mnist_vae.pipelines.anomaly.nodes import calibrate_anomalies


@pytest.fixture(scope="module")
def networks():
    from mnist_vae.vae.networks import build_decoder, build_encoder

    return (
        build_encoder(latent_dim=2, hidden_units=(16,), seed=1),
        build_decoder(latent_dim=2, hidden_units=(16,), seed=1),
    )


@pytest.fixture
def parts(make_images):
    return [make_images(60), make_images(40, "validation", 60), make_images(30, "test", 100)]


@pytest.fixture
def summary(networks, parts):
    return {
        "model_version": fingerprint(*networks),
        "weights": {model.name: fingerprint(model) for model in networks},
        "images": {"train": parts[0].digest(), "validation": parts[1].digest()},
        "reconstruction": "binary_crossentropy",
        "statement": "Trained on 60 images.",
    }


def test_the_threshold_is_of_the_model_in_use(networks, parts, summary):
    params = AnomalyParams(false_positive_rate=0.1)
    calibration = calibrate_anomalies(*networks, *parts[:2], summary, params, 1)
    assert calibration.model_version == summary["model_version"]
    assert (calibration.score, calibration.false_positive_rate) == ("relative_excess", 0.1)
    assert calibration.n_validation == 40


def test_images_that_the_model_was_not_trained_on_choose_no_threshold(networks, parts, summary):
    with pytest.raises(ValueError, match="The validation images changed"):
        calibrate_anomalies(*networks, parts[0], parts[2], summary, AnomalyParams(), 1)
