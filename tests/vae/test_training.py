"""Training: schedules, early stopping, divergence, progress, seeds."""

import logging

import numpy as np
import pytest

from mnist_vae.vae import callbacks
from mnist_vae.vae.callbacks import TrainingDivergedError
from mnist_vae.vae.model import VariationalAutoencoder
from mnist_vae.vae.networks import build_decoder, build_encoder
from mnist_vae.vae.training import fit

PARAMS = {
    "epochs": 4,
    "batch_size": 16,
    "learning_rate": 0.01,
    "learning_rate_schedule": "linear",
    "early_stopping_patience": None,
    "jit_compile": False,
    "seed": 1,
}


@pytest.fixture
def pixels():
    return np.random.default_rng(0).random((40, 784)).astype("float32")


def new_vae():
    return VariationalAutoencoder(
        build_encoder(hidden_units=(16,), seed=1), build_decoder(hidden_units=(16,), seed=1)
    )


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.01, 0.01, 0.01, 0.01]),
        ("linear", [0.0075, 0.005, 0.0025, 0.0]),
        ("cosine", [0.01 * (1 + np.cos(np.pi * t)) / 2 for t in (0.25, 0.5, 0.75, 1.0)]),
    ],
)
def test_the_learning_rate_follows_its_schedule(pixels, schedule, rates):
    history = fit(new_vae(), pixels, pixels, **PARAMS | {"learning_rate_schedule": schedule})
    assert history["learning_rate"] == pytest.approx(rates, abs=1e-7)


def test_early_stopping_ends_with_the_weights_of_the_best_epoch(pixels):
    vae = new_vae()
    # White noise cannot be learnt: the validation loss soon rises.
    validation = 1 - pixels
    params = {"epochs": 60, "learning_rate": 0.03, "learning_rate_schedule": "constant"}
    history = fit(vae, pixels, validation, **PARAMS | params | {"early_stopping_patience": 3})
    best = int(np.argmin(history["val_loss"]))
    assert len(history["val_loss"]) == best + 1 + 3 < 60
    report = vae.evaluate(validation, verbose=0, return_dict=True)
    assert report["loss"] == pytest.approx(history["val_loss"][best], rel=0.01)


def test_training_that_diverges_says_what_to_try(pixels):
    with pytest.raises(TrainingDivergedError, match=r"loss became (nan|inf) in epoch \d, batch .*"):
        fit(new_vae(), pixels, pixels, **PARAMS | {"learning_rate": 1e6, "epochs": 20})


def test_a_validation_loss_that_is_not_finite_ends_training_too(pixels):
    with pytest.raises(TrainingDivergedError, match="validation loss became nan in epoch 1,"):
        fit(new_vae(), pixels, pixels * np.float32(np.nan), **PARAMS)


def test_same_seed_same_history_and_other_seed_another(pixels):
    histories = [fit(new_vae(), pixels, pixels, **PARAMS | {"seed": seed}) for seed in (1, 1, 2)]
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]


def test_progress_is_one_line_an_epoch_when_nobody_watches(pixels, caplog):
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        fit(new_vae(), pixels, pixels, **PARAMS | {"epochs": 2})
    lines = [record.message for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith("Epoch 1/2: loss ")
    for word in ("reconstruction", "KL", "validation", "images/s", "left"):
        assert word in lines[1]


def test_progress_is_one_bar_for_the_run_on_a_terminal(pixels, capsys, monkeypatch):
    monkeypatch.setattr(callbacks.sys.stderr, "isatty", lambda: True, raising=False)
    fit(new_vae(), pixels, pixels, **PARAMS | {"epochs": 3})
    bar = capsys.readouterr().err
    assert "epoch 3/3" in bar
    assert "100%" in bar
    assert "images/s" in bar
    assert "KL" in bar
    assert bar.count("\n") == 1
