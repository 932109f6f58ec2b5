"""Metrics against numbers computed by hand, and the record of a run."""

import json
from importlib.metadata import version

import numpy as np
import pytest

from mnist_vae.data.fingerprints import fingerprint
from mnist_vae.data.provenance import COMMIT
from mnist_vae.params import EvaluationParams, ModelParams
from mnist_vae.pipelines.evaluation import nodes

MANIFEST = {"statement": "Data: a test.", "source": "sample"}


def summary_of(networks, make_images, reconstruction="binary_crossentropy"):
    return {
        "model_version": fingerprint(*networks),
        "weights": {model.name: fingerprint(model) for model in networks},
        "images": {
            "train": make_images(40).digest(),
            "validation": make_images(10, "validation", 40).digest(),
        },
        "statement": "Trained on 40 images. Data: a test.",
        "data_source": "sample",
        "reconstruction": reconstruction,
    }


@pytest.fixture(scope="module")
def networks():
    from mnist_vae.vae.networks import build_decoder, build_encoder

    encoder = build_encoder(latent_dim=3, hidden_units=(16,), seed=1)
    # A dimension that has collapsed to the prior: μ = 0 and log σ² = 0 for every image.
    for name in ("z_mean", "z_log_var"):
        kernel = encoder.get_layer(name).kernel
        kernel.assign(kernel * np.array([1, 1, 0], "float32"))
    return encoder, build_decoder(latent_dim=3, hidden_units=(16,), seed=1)


def evaluate(networks, make_images, seed=1, reconstruction="binary_crossentropy", **params):
    return nodes.evaluate_vae(
        *networks,
        make_images(40),
        make_images(10, "validation", 40),
        make_images(20, "test", 50),
        summary_of(networks, make_images, reconstruction),
        EvaluationParams(**params),
        seed,
    )


def test_minus_elbo_is_reconstruction_plus_kl_on_every_split(networks, make_images):
    metrics = evaluate(networks, make_images)
    assert [m["n_images"] for m in metrics["splits"].values()] == [40, 10, 20]
    for split in metrics["splits"].values():
        assert split["negative_elbo"] == pytest.approx(split["reconstruction"] + split["kl"])
        assert split["kl"] == pytest.approx(sum(split["kl_per_dimension"]))
        assert split["excess_over_floor"] == pytest.approx(
            split["negative_elbo"] - split["entropy_floor"]
        )
    assert metrics["data"] == "Trained on 40 images. Data: a test."
    json.dumps(metrics)


def test_z_is_sampled_and_never_the_mean(networks, make_images):
    test = make_images(20, "test", 50)
    x = test.model_input()
    z_mean = networks[0](x)[0].numpy()
    p = networks[1](z_mean).numpy()
    at_the_mean = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=1).mean()
    sampled = [
        evaluate(networks, make_images, seed=seed)["splits"]["test"]["reconstruction"]
        for seed in (1, 2)
    ]
    assert sampled[0] != pytest.approx(at_the_mean, rel=1e-4)
    assert sampled[0] != pytest.approx(sampled[1], rel=1e-6)


def test_a_collapsed_dimension_is_not_active_and_has_no_kl(networks, make_images):
    test = evaluate(networks, make_images)["splits"]["test"]
    assert test["kl_per_dimension"][2] == pytest.approx(0, abs=1e-6)
    z_mean = networks[0](make_images(20, "test", 50).model_input())[0].numpy()
    assert test["active_units"] == (z_mean.var(axis=0) > 0.01).sum() <= 2


def test_more_draws_of_z_change_the_reconstruction_alone(networks, make_images):
    one = evaluate(networks, make_images)["splits"]["test"]
    many = evaluate(networks, make_images, z_samples=8)["splits"]["test"]
    assert one["kl"] == many["kl"]
    assert one["reconstruction"] != many["reconstruction"]
    assert one["reconstruction"] == pytest.approx(many["reconstruction"], rel=0.05)


def test_a_squared_error_has_no_entropy_floor(networks, make_images):
    metrics = evaluate(networks, make_images, reconstruction="mse")
    assert metrics["reconstruction_term"] == "mse"
    assert metrics["splits"]["test"]["entropy_floor"] is None
    assert metrics["splits"]["test"]["excess_over_floor"] is None


def test_a_model_is_not_evaluated_on_images_it_may_have_seen(networks, make_images):
    summary = summary_of(networks, make_images)
    other = make_images(40, "train", 1000)
    with pytest.raises(ValueError, match="train images changed after the model was trained"):
        nodes.evaluate_vae(*networks, other, other, other, summary, EvaluationParams(), 1)


def test_the_run_manifest_records_versions_commit_and_parameters(monkeypatch):
    monkeypatch.setenv(COMMIT, "abc")
    manifest = nodes.describe_run(
        {"seed": 7, "model": ModelParams(), "plain": 1},
        MANIFEST,
        {"epochs": 3},
        {"model_version": "m"},
    )
    assert manifest["seed"] == 7
    assert manifest["parameters"]["model"]["hidden_units"] == [512, 256]
    assert (manifest["versions"]["keras"], manifest["git_commit"]) == (version("keras"), "abc")
    assert (manifest["data"], manifest["model_version"]) == (MANIFEST, "m")
    json.dumps(manifest)
