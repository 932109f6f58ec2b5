"""The training, metrics compared with numbers by hand, where −ELBO goes, a run's record."""

import json
import logging
import shutil
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest

from mnist_vae.data.images import UNLABELLED
from mnist_vae.data.models import TrainingBackupDataset
from mnist_vae.data.origin import COMMIT
from mnist_vae.params import EvaluationParams, ModelParams, TrainingParams
from mnist_vae.pipelines.training import nodes
from mnist_vae.pipelines.training.decomposition import decompose
from mnist_vae.recipe import train
from mnist_vae.vae import likelihood
from mnist_vae.vae.elbo import score_batches
from tests.model_files import summary_of
from tests.vae.models import images_of, sharpened, small

TRAINING = TrainingParams(epochs=2, batch_size=8, jit_compile=False)
MANIFEST = {"statement": "Data: noise.", "source": "noise"}


@pytest.fixture(scope="module")
def start(splits):
    """Call the node with a backup in a folder."""

    def started(folder, params=TRAINING, images=splits[:2], manifest=MANIFEST):
        backup = TrainingBackupDataset(filepath=str(folder / "backup.npz")).load()
        return train(*images, manifest, ModelParams(hidden_units=(16,)), params, 1, backup)

    return started


@pytest.fixture(scope="module")
def finished(start, tmp_path_factory):
    """The folder of a backup, and what was returned then."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, start(folder)


def test_a_model_that_could_not_be_saved_is_not_trained_again(start, finished, caplog):
    folder, (encoder, _, history, summary) = finished  # and then the disk was full
    assert encoder.name == "encoder"
    assert history["epoch"].tolist() == [1, 2]
    speed = 120 / summary["duration_seconds"]
    assert summary["images_per_second"] == pytest.approx(speed, rel=0.01)
    assert summary["statement"] == "Trained on 60 images. Data: noise."
    assert summary["started_from"] is None
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        _, _, again, its_summary = start(folder)
    assert "after epoch 2" in caplog.text
    assert "Epoch" not in caplog.text
    assert again.equals(history)
    assert its_summary == summary


def test_another_training_starts_afresh(start, finished, splits, tmp_path, caplog):
    shutil.copy(finished[0] / "backup.npz", tmp_path)
    params = TRAINING.model_copy(update={"learning_rate": 0.001})
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        start(tmp_path, params, [splits[2], splits[1]])
    changed = "since then the parameters and the data changed: training starts from the beginning"
    assert changed in caplog.text
    assert "Epoch 2/2" in caplog.text


def test_a_start_from_a_release_need_not_improve_and_is_named(start, splits, tmp_path):
    white, black = (
        replace(images, pixels=np.full_like(images.pixels, grey))
        for images, grey in zip(splits, (255, 0), strict=False)
    )
    params = TRAINING.model_copy(update={"early_stopping_patience": 1, "learning_rate": 0.1})
    manifest = {**MANIFEST, "started_from": "r-17"}
    summary = start(tmp_path, params, [white, black], manifest)[3]
    assert (summary["epochs"], summary["started_from"]) == (2, "r-17")
    words = "Trained on 60 images, starting from the weights of the release r-17. Data: noise."
    assert summary["statement"] == words


STATEMENT = "Trained on 60 images. Data: a test."
BCE = "binary_crossentropy"


@pytest.fixture(scope="module")
def networks():
    encoder, decoder = small(3)
    # A dimension that has collapsed to the prior: μ = 0 and log σ² = 0 for every image.
    for name in ("z_mean", "z_log_var"):
        kernel = encoder.get_layer(name).kernel
        kernel.assign(kernel * np.array([1, 1, 0], "float32"))
    return encoder, decoder


@pytest.fixture
def evaluate(networks, splits):
    """A function that evaluates the model, with any parameters."""

    def metrics(splits=splits, seed=1, reconstruction=BCE, **params):
        facts = {"data_source": "sample", "reconstruction": reconstruction}
        summary = summary_of(networks, *splits[:2], **facts, statement=STATEMENT)
        params = EvaluationParams(**{"z_samples": 2, **params})
        return nodes.evaluate_vae(*networks, *splits, summary, params, seed)

    return metrics


def test_minus_elbo_is_reconstruction_plus_kl_with_sampled_z(evaluate, networks, splits):
    metrics = evaluate(z_samples=3)
    for images, split in zip(splits, metrics["splits"].values(), strict=True):
        how = {"reconstruction": BCE, "seed": 1, "draws": 3}
        ((_, terms),) = score_batches(*networks, [images.model_input()], **how)
        assert split["n_images"] == len(images)
        assert split["reconstruction"] == pytest.approx(terms.reconstruction.mean(), rel=1e-6)
        assert split["kl"] == pytest.approx(terms.kl.mean(), rel=1e-5)
        assert split["kl"] == pytest.approx(sum(split["kl_per_dimension"]))
        assert split["negative_elbo"] == pytest.approx(split["reconstruction"] + split["kl"])
        above = split["negative_elbo"] - split["entropy_floor"]
        assert split["excess_over_floor"] == pytest.approx(above)
        assert split["decomposition"] is split["binarized"] is None
    assert metrics["data"] == STATEMENT
    assert "add `--params evaluation.thorough=true`" in metrics["skipped"]
    json.dumps(metrics, allow_nan=False)


def test_a_collapsed_dimension_is_not_active_and_mse_has_no_floor(evaluate, networks, splits):
    metrics = evaluate(reconstruction="mse")
    test = metrics["splits"]["test"]
    assert test["kl_per_dimension"][2] == pytest.approx(0, abs=1e-6)
    z_mean = networks[0](splits[2].model_input())[0].numpy()
    assert test["active_units"] == (z_mean.var(axis=0) > 0.01).sum() <= 2
    assert metrics["reconstruction_term"] == "mse"
    assert test["entropy_floor"] is test["excess_over_floor"] is None


def test_a_thorough_evaluation_takes_some_images_apart(evaluate):
    few = {"refine_steps": 2, "importance_samples": 20, "likelihood_images": 12}
    metrics = evaluate(thorough=True, **few)
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
    train, validation, test = splits
    half = replace(test, label=np.where(np.arange(30) < 15, UNLABELLED, test.label))
    found = evaluate([train, validation, half])["label_accuracy"]
    assert (found["n_images"], found["neighbours"], found["refined"]) == (15, 15, None)
    assert 0 <= found["amortised"]["value"] <= 1
    unlabelled = replace(train, label=np.full_like(train.label, UNLABELLED))
    found = evaluate([unlabelled, validation, test])["label_accuracy"]
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


PIXELS = 100


def parts_of(encoder, decoder, images):
    params = {"refine_steps": 20, "importance_samples": 200, "z_samples": 5}
    how = BCE, EvaluationParams(thorough=True, **params), 1
    return decompose(encoder, decoder, {"some": images}, *how)["some"]


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    monkeypatch.setitem(likelihood._STEPS, 1, 0.002)  # of the sum over z: a twentieth of the time


@pytest.mark.parametrize(
    ("latent_dim", "how"), [(1, "exact"), (3, "importance-weighted bound, 200 draws")]
)
def test_minus_elbo_is_the_likelihood_and_two_gaps(latent_dim, how):
    decoder = sharpened(latent_dim, n_pixels=PIXELS)
    parts = parts_of(small(latent_dim, PIXELS)[0], decoder, images_of(decoder, 20))
    assert parts["likelihood"] == how
    assert parts["n_images"] == 20
    nats = parts["negative_log_likelihood"]
    whole = nats + parts["approximation"] + parts["amortisation"]
    assert parts["negative_elbo"] == pytest.approx(whole)
    assert parts["negative_elbo"] > parts["refined_negative_elbo"] > nats - 0.05
    assert (parts["quadrature_error"] is None) == (latent_dim > 2)
    assert 0.1 <= parts["worst_tenth"] <= 1
    assert 0 <= parts["misplaced"] <= 1


def test_an_encoder_that_knows_nothing_of_x_where_the_decoder_needs_no_z_loses_nothing():
    encoder, _ = small(1, PIXELS)
    for name in ("z_mean", "z_log_var"):
        layer = encoder.get_layer(name)
        layer.set_weights([0 * weight for weight in layer.get_weights()])
    images = np.random.default_rng(0).random((10, PIXELS)).astype(np.float32)
    parts = parts_of(encoder, sharpened(1, factor=0.0, n_pixels=PIXELS), images)
    # q is the prior and the exact posterior too.
    assert parts["amortisation"] == pytest.approx(0, abs=1e-3)
    assert parts["approximation"] == pytest.approx(0, abs=1e-3)
    assert parts["negative_elbo"] == pytest.approx(PIXELS * np.log(2), abs=1e-2)
