"""A model and its images, as the nodes of the evaluation take them."""

import pytest

from mnist_vae.data.fingerprints import fingerprint


@pytest.fixture
def small_model(make_images):
    """Encoder, decoder, the images of three splits, and the summary of a training."""
    from mnist_vae.vae.networks import build_decoder, build_encoder

    networks = [
        build(latent_dim=3, hidden_units=(16,), seed=1) for build in (build_encoder, build_decoder)
    ]
    train, validation = make_images(40), make_images(10, "validation", 40)
    summary = {
        "model_version": fingerprint(*networks),
        "weights": {model.name: fingerprint(model) for model in networks},
        "images": {"train": train.digest(), "validation": validation.digest()},
        "statement": "Trained on 40 images. Data: a test.",
        "data_source": "sample",
        "reconstruction": "binary_crossentropy",
    }
    return *networks, train, validation, make_images(20, "test", 50), summary
