"""The training model: its objective. Its training: schedules, ends, resumption, progress, order."""

import copy
import io
import itertools
import logging
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from mnist_vae.params import TrainingParams
from mnist_vae.vae import callbacks, training
from mnist_vae.vae.callbacks import Progress, TrainingFailedError
from mnist_vae.vae.losses import kl_divergence
from mnist_vae.vae.model import VariationalAutoencoder, resample
from mnist_vae.vae.networks import keras
from mnist_vae.vae.training import Batches, fit
from tests.vae.models import small


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).random((48, 784)).astype("float32")


@pytest.fixture
def networks():
    return small(hidden_units=(32, 16))


def autoencoder(networks, reconstruction="binary_crossentropy", **objective):
    """A model that learns nothing, with an objective."""
    vae = VariationalAutoencoder(*networks, reconstruction, seed=1)
    vae.objective = TrainingParams(**{"resample_input": False, **objective})
    vae.compile(keras.optimizers.Adam(0.0), jit_compile=False)
    return vae


def one_epoch(networks, pixels, **objective):
    vae = autoencoder(networks, **objective)
    history = vae.fit(pixels, validation_data=(pixels,), batch_size=32, verbose=0).history
    return {name: values[0] for name, values in history.items()}


def test_validation_reports_the_mean_minus_elbo_whatever_is_trained_on(networks, pixels):
    epoch = one_epoch(networks, pixels, resample_input=True, refine_steps=2, kl_weight=4.0)
    assert epoch["val_loss"] == pytest.approx(epoch["val_reconstruction"] + epoch["val_kl"])
    z_mean, z_log_var, _ = networks[0](pixels)
    kl = kl_divergence(z_mean, z_log_var).numpy().mean()
    assert epoch["val_kl"] == pytest.approx(kl, rel=1e-5), "though the last batch is smaller"


@pytest.mark.parametrize("latent_dim", [2, 5])
def test_the_encoder_learns_from_its_own_q_and_the_decoder_from_the_refined(pixels, latent_dim):
    found = []
    for changes in ({}, {"refine_steps": 3, "refined_share": 0.75}):
        vae = autoencoder(small(latent_dim), **changes)
        with tf.GradientTape() as tape:
            vae(pixels, training=True)
            (loss,) = vae.losses
        weights = [variable.value for variable in vae.trainable_variables]
        found.append(tape.gradient(loss, weights))
    n_encoder = len(vae.encoder.trainable_variables)
    for number, (plain, refined) in enumerate(zip(*found, strict=True)):
        quarter = pytest.approx(plain.numpy() / 4, rel=1e-3, abs=1e-4)
        assert (refined.numpy() == quarter) == (number < n_encoder), number


@pytest.mark.parametrize(("term", "beta"), [("binary_crossentropy", 50.0), ("mse", 2.0)])
def test_the_refined_q_is_better_and_beta_weighs_its_kl_term_too(networks, pixels, term, beta):
    def refined(beta, steps=20):
        how = {"refine_steps": steps, "refined_share": 0.999, "kl_weight": beta}
        vae = autoencoder(networks, term, **how)
        terms = vae(pixels, training=True)
        loss, kl = float(vae.losses[0]), float(np.mean(terms.kl))
        assert loss == pytest.approx(np.mean(terms.reconstruction) + beta * kl, rel=1e-4)
        return loss, kl

    plain = autoencoder(networks, term)
    plain(pixels, training=True)
    assert refined(1.0)[0] < refined(1.0, steps=1)[0] < float(plain.losses[0])
    assert refined(beta)[1] < 0.9 * refined(1.0)[1]


def test_only_the_encoder_sees_the_resampled_image(networks, pixels):
    epoch = one_epoch(networks, np.full_like(pixels, 0.5), resample_input=True)
    # The decoder of an untrained network says ½ or so; for a grey target that is the best there is.
    entropy = 784 * np.log(2)
    assert epoch["reconstruction"] == pytest.approx(entropy, rel=0.05)
    assert epoch["reconstruction"] >= entropy


def test_a_resampled_input_is_black_or_white_with_the_probability_of_its_grey():
    seeds = keras.random.SeedGenerator(1)
    grey = np.linspace(0, 1, 256, dtype="float32")
    pixels = np.tile(np.repeat(grey, 49), (400, 1)).reshape(-1, 784)
    seen = resample(pixels, seeds.next()).numpy()
    assert set(np.unique(seen)) == {0.0, 1.0}
    share = seen.reshape(400, 256, 49).mean(axis=(0, 2))
    assert (share[0], share[-1]) == (0, 1)
    assert np.abs(share - grey).max() < 5 * 0.5 / np.sqrt(400 * 49)
    odd = resample(pixels[:, :81], seeds.next()).numpy()
    assert odd.shape == (len(pixels), 81), "of 9 x 9 pixels too, which are no multiple of 4"


def test_draws_of_neighbours_and_of_two_steps_have_nothing_to_do_with_each_other():
    seeds = keras.random.SeedGenerator(1)
    grey = np.full((400, 784), 0.5, "float32")
    first, second = (resample(grey, seeds.next()).numpy() for _ in range(2))
    pairs = [(first, second), (first[:, :196], first[:, 196:392])]
    pairs += [(first[:, :-1], first[:, 1:]), (first[:-1], first[1:])]
    for one, other in pairs:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(one.size)


# The training
PARAMS = {"epochs": 4, "batch_size": 16, "learning_rate": 0.01, "steps_per_execution": 1}
PARAMS |= {"early_stopping_patience": None, "jit_compile": False, "resample_input": False}
# With many kinds of state.
WHOLE = {"epochs": 6, "learning_rate": 0.03, "early_stopping_patience": 3}
WHOLE |= {"resample_input": True, "refine_steps": 1, "optimizer": "muon"}


@pytest.fixture(scope="module")
def digits():
    """Training and validation images with a pattern to learn, and noise to overfit."""
    random = np.random.default_rng(0)
    pattern = random.random(784)
    return [255 * (random.random((40, 784)) < pattern).astype(np.uint8) for _ in range(2)]


@pytest.fixture(scope="module")
def whole(digits):
    """A model after a training that nothing interrupted, and its history."""
    vae = new_vae()
    return vae, train(vae, *digits, **WHOLE)


def train(*args, backup=None, warm_start=False, seed=1, **params):
    params = TrainingParams(**PARAMS | params)
    return fit(*args, params, seed=seed, backup=backup, warm_start=warm_start).history


def new_vae():
    return VariationalAutoencoder(*small(), seed=3)


RATES = {
    "linear": [0.0075, 0.005, 0.0025, 0.0],
    "cosine": [0.01 * (1 + np.cos(np.pi * t)) / 2 for t in (0.25, 0.5, 0.75, 1.0)],
}


@pytest.mark.parametrize("schedule", RATES)
def test_the_learning_rate_falls_and_the_weight_of_the_kl_term_rises(digits, schedule):
    how = {"kl_warmup_epochs": 2, "learning_rate_schedule": schedule}
    history = {name: np.array(values) for name, values in train(new_vae(), *digits, **how).items()}
    weights = (history["loss"] - history["reconstruction"]) / history["kl"]
    assert weights == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0], rel=0.02)
    assert history["learning_rate"] == pytest.approx(RATES[schedule], abs=1e-7)


def test_muon_takes_the_hidden_layers_of_the_decoder_and_adam_all_else(digits):
    """Adam's first step is the learning rate; Muon's has singular values of one size."""
    vae = new_vae()
    before = [np.asarray(kernel) for kernel in vae.trainable_variables]
    params = {"epochs": 1, "batch_size": 40, "learning_rate_schedule": "constant"}
    train(vae, *digits, **params, optimizer="muon")
    steps = [np.asarray(w) - b for w, b in zip(vae.trainable_variables, before, strict=True)]
    by_muon = [id(layer.kernel) for layer in vae.decoder.layers if layer.name.startswith("hidden_")]
    assert by_muon
    for weight, step in zip(vae.trainable_variables, steps, strict=True):
        if id(weight) in by_muon:
            size = 0.01 * 0.2 * np.sqrt(max(step.shape))  # Liu et al. (2025), section 2.2
            singular = np.linalg.svd(step, compute_uv=False) / size
            assert ((singular > 0.6) & (singular < 1.3)).all(), weight.path
        else:
            moved = np.abs(step[step != 0])
            assert np.median(moved) == pytest.approx(0.01, rel=0.01), weight.path


def test_early_stopping_ends_with_the_weights_of_the_best_epoch(digits):
    vae = new_vae()
    params = {"epochs": 60, "learning_rate": 0.03, "learning_rate_schedule": "constant"}
    history = train(vae, *digits, **params, early_stopping_patience=3)
    best = int(np.argmin(history["val_loss"]))
    assert len(history["val_loss"]) == best + 1 + 3 < 60
    report = vae.evaluate(digits[1] / np.float32(255), verbose=0, return_dict=True)
    assert report["loss"] == pytest.approx(history["val_loss"][best], rel=0.01)
    assert history["learning_rate"] == pytest.approx([0.03] * len(history["loss"]))


@pytest.mark.parametrize(("number", "name"), [(0, "training"), (1, "validation")])
def test_training_that_diverges_ends_and_says_what_to_try(digits, number, name):
    images = [(part / 255).astype(np.float32) for part in digits]
    images[number][17, 300] = np.nan
    message = f"The {name} loss became nan in epoch 1: .* try a tenth of"
    with pytest.raises(TrainingFailedError, match=message):
        train(new_vae(), *images, warm_start=True)


@pytest.mark.parametrize(("patience", "epochs"), [(None, 4), (2, 3)])
def test_a_loss_that_never_improves_is_an_error_but_of_a_trained_model(digits, patience, epochs):
    vae = new_vae()  # of which the last layer alone is trained
    vae.decoder.trainable = vae.encoder.trainable = False
    vae.decoder.get_layer("logits").trainable = True
    # Training learns a white sheet while validation is black.
    images = np.full_like(digits[0], 255), np.zeros_like(digits[0])
    params = {"early_stopping_patience": patience, "learning_rate_schedule": "constant"}
    losses = train(vae, *images, **params, warm_start=True)["val_loss"]
    assert losses == sorted(losses)
    assert len(losses) == epochs
    with pytest.raises(TrainingFailedError, match=f"did not improve in {epochs} epochs"):
        train(vae, *images, **params)


def test_steps_between_two_returns_to_python_change_nothing_and_another_seed_does(digits, whole):
    assert train(new_vae(), *digits, **WHOLE, steps_per_execution=100) == whole[1]
    assert train(new_vae(), *digits, **WHOLE, seed=2) != whole[1]


class Store(list):
    """A store of backups, which keeps every state."""

    interval = 60.0

    def load(self):
        return self[-1] if self else None

    def save(self, state):
        self.append(copy.deepcopy(state))


def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(digits, whole, monkeypatch):
    """Ctrl-C in the third epoch, when the weights are no longer those of the second."""
    store, read, batches = Store(), Batches.__getitem__, iter(range(100))

    def interrupted(self, index):
        if self.seed is not None and next(batches) == 5:  # of training there are two an epoch
            signal.raise_signal(signal.SIGINT)
        return read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "__getitem__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(new_vae(), *digits, **WHOLE, backup=store)
    assert [state["epoch"] for state in store] == [2], "however short ago the last save was"
    store.interval = 0.0
    vae, history = whole
    for _ in range(2):  # from that epoch, and from the last one, until the model is saved
        resumed = new_vae()
        assert train(resumed, *digits, **WHOLE, backup=store) == history
        for expected, received in zip(vae.variables, resumed.variables, strict=True):
            if "kl" not in received.path and "reconstruction" not in received.path:
                assert np.array_equal(expected, received), received.path
    assert [state["epoch"] for state in store] == [*range(2, len(history["loss"]) + 1)]


def shown(epochs, **model):
    """Let the epochs of a training be shown that takes no time."""
    progress = Progress(640, epochs, 0)
    progress.set_model(SimpleNamespace(**{"stop_training": False, "reconstruction": "", **model}))
    progress.set_params({"steps": 10})
    for epoch in range(epochs):
        progress.on_epoch_begin(epoch)
        for batch in range(10):
            progress.on_train_batch_end(batch)
        figures = dict.fromkeys(("loss", "reconstruction", "kl", "val_loss"), 12.345)
        progress.on_epoch_end(epoch, figures)
    progress.close()


@pytest.mark.parametrize(
    ("seconds", "epochs"), [(1, (1, *range(4, 43, 4), 43)), (61, range(1, 44))]
)
def test_a_log_has_some_ten_lines_or_one_a_minute(seconds, epochs, caplog, monkeypatch):
    clock = itertools.count(0, seconds / 2)  # which is asked twice an epoch
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: next(clock))
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        shown(43)
        shown(1, reconstruction="mse")
    *lines, squared = caplog.messages
    assert [line.split(":")[0] for line in lines] == [f"Epoch {epoch}/43" for epoch in epochs]
    figures = "loss 12.35, reconstruction 12.35, KL 12.35, validation 12.35 nats, "
    assert figures in lines[0]
    assert lines[0].endswith(" images/s")
    assert "nats" not in squared


def test_progress_is_one_bar_of_80_columns_on_a_terminal(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    shown(3)
    text = terminal.getvalue()
    assert text.count("\n") == 1
    *_, last = filter(str.strip, text.split("\r"))
    assert len(last.strip()) <= 80
    for part in ("epoch 3/3", "100%", "images/s", "left", "loss", "KL"):
        assert part in last


# The order of the images
N = 1000


@pytest.mark.parametrize(("batch_size", "at_a_time"), [(7, 1), (256, 100), (N, 100), (7, N)])
def test_an_epoch_has_no_image_twice_in_an_order_of_its_own(batch_size, at_a_time, monkeypatch):
    monkeypatch.setattr(training, "_BLOCK", 32)
    numbers = np.arange(N)[:, np.newaxis]

    def order(seed, epoch):
        batches = Batches(numbers, batch_size, seed, at_a_time)
        batches.shuffle(epoch)
        return [batches[place].ravel().tolist() for place in range(len(batches))]

    found = order(1, 0)
    assert [len(batch) for batch in found] == [batch_size] * (N // batch_size)
    seen = [row for batch in found for row in batch]
    assert len(set(seen)) == len(seen)
    assert seen != sorted(seen)
    assert found == order(1, 0)
    assert found not in (order(1, 1), order(2, 0))
    every = {row for epoch in range(30) for batch in order(1, epoch) for row in batch}
    assert every == set(range(N)), "every image comes in some epoch"


def test_without_a_seed_they_come_in_their_order_with_the_rest():
    images = np.random.default_rng(0).integers(0, 256, (N, 784)).astype(np.uint8)
    fed = np.concatenate([batch.numpy() for batch in Batches(images, 96).dataset()])
    np.testing.assert_array_equal(fed, (images / np.float32(255)).astype(np.float32))
