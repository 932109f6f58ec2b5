"""Metrics against numbers computed by hand, and the record of a run."""

import json
from importlib.metadata import version

import numpy as np
import pytest

from mnist_vae.data.images import UNLABELLED
from mnist_vae.data.origin import COMMIT
from mnist_vae.params import EvaluationParams, ModelParams
from mnist_vae.pipelines.evaluation import nodes
from tests.model_files import summary_of
from tests.vae.models import small

STATEMENT = "Trained on 40 images. Data: a test."
THOROUGH = {
    "thorough": True, "refine_steps": 2, "importance_samples": 20, "likelihood_images": 12,
}  # fmt: skip


@pytest.fixture(scope="module")
def networks():
    encoder, decoder = small(3)
    # A dimension that has collapsed to the prior: μ = 0 and log σ² = 0 for every image.
    for name in ("z_mean", "z_log_var"):
        kernel = encoder.get_layer(name).kernel
        kernel.assign(kernel * np.array([1, 1, 0], "float32"))
    return encoder, decoder


@pytest.fixture
def splits(make_images):
    return [make_images(40), make_images(10, "validation", 40), make_images(20, "test", 50)]


@pytest.fixture
def evaluate(networks, splits):
    """A function that evaluates the model, with any parameters."""

    def metrics(seed=1, reconstruction="binary_crossentropy", **params):
        facts = {"data_source": "sample", "reconstruction": reconstruction}
        summary = summary_of(networks, *splits[:2], **facts, statement=STATEMENT)
        params = EvaluationParams(**{"z_samples": 2, **params})
        return nodes.evaluate_vae(*networks, *splits, summary, params, seed)

    return metrics


def test_minus_elbo_is_reconstruction_plus_kl_on_every_split(evaluate):
    metrics = evaluate()
    assert [m["n_images"] for m in metrics["splits"].values()] == [40, 10, 20]
    for split in metrics["splits"].values():
        assert split["negative_elbo"] == pytest.approx(split["reconstruction"] + split["kl"])
        assert split["kl"] == pytest.approx(sum(split["kl_per_dimension"]))
        assert split["excess_over_floor"] == pytest.approx(
            split["negative_elbo"] - split["entropy_floor"]
        )
        assert split["decomposition"] is split["binarized"] is None
    assert metrics["data"] == STATEMENT
    assert "add `--params evaluation.thorough=true`" in metrics["skipped"]
    json.dumps(metrics, allow_nan=False)


def test_z_is_sampled_and_never_the_mean(evaluate, networks, splits):
    x = splits[2].model_input()
    p = networks[1](networks[0](x)[0]).numpy()
    at_the_mean = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=1).mean()
    one, other, many = (
        evaluate(seed=seed, z_samples=draws)["splits"]["test"]
        for seed, draws in ((1, 1), (2, 1), (1, 8))
    )
    assert one["reconstruction"] != pytest.approx(at_the_mean, rel=1e-4)
    assert one["reconstruction"] != pytest.approx(other["reconstruction"], rel=1e-6)
    assert one["reconstruction"] != many["reconstruction"]
    assert one["reconstruction"] == pytest.approx(many["reconstruction"], rel=0.05)
    assert one["kl"] == many["kl"]


def test_a_collapsed_dimension_is_not_active_and_a_squared_error_has_no_floor(
    evaluate, networks, splits
):
    metrics = evaluate(reconstruction="mse")
    test = metrics["splits"]["test"]
    assert test["kl_per_dimension"][2] == pytest.approx(0, abs=1e-6)
    z_mean = networks[0](splits[2].model_input())[0].numpy()
    assert test["active_units"] == (z_mean.var(axis=0) > 0.01).sum() <= 2
    assert metrics["reconstruction_term"] == "mse"
    assert test["entropy_floor"] is test["excess_over_floor"] is None


def test_a_thorough_evaluation_takes_some_images_apart(evaluate):
    metrics = evaluate(**THOROUGH)
    parts = metrics["splits"]
    assert [split["decomposition"]["n_images"] for split in parts.values()] == [12, 10, 12]
    assert [split["binarized"] is not None for split in parts.values()] == [False, False, True]
    grey, binarized = (
        parts["test"][name]["negative_log_likelihood"] for name in ("decomposition", "binarized")
    )
    assert parts["test"]["entropy_floor"] < grey != binarized
    assert 0 <= metrics["label_accuracy"]["refined"]["value"] <= 1
    assert metrics["skipped"] is None


def test_images_without_a_label_are_left_out_of_the_accuracy(evaluate, splits):
    splits[2].label[:5] = UNLABELLED
    found = evaluate()["label_accuracy"]
    assert (found["n_images"], found["neighbours"], found["refined"]) == (15, 15, None)
    assert 0 <= found["amortised"]["value"] <= 1
    splits[0].label[:] = UNLABELLED
    found = evaluate()["label_accuracy"]
    assert found["amortised"] is found["refined"] is None


def test_the_run_manifest_records_versions_commit_and_parameters(monkeypatch):
    monkeypatch.setenv(COMMIT, "abc")
    parameters = {"seed": 7, "model": ModelParams(), "plain": 1}
    data = {"statement": "Data: a test.", "source": "sample"}
    manifest = nodes.describe_run(parameters, data, {"epochs": 3}, {"model_version": "m"})
    assert manifest["seed"] == 7
    assert manifest["parameters"]["model"]["hidden_units"] == [512, 256]
    assert (manifest["versions"]["keras"], manifest["git_commit"]) == (version("keras"), "abc")
    assert (manifest["data"], manifest["model_version"]) == (data, "m")
    json.dumps(manifest)
