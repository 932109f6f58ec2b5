"""Training: schedules, early stopping, divergence, the same bytes after a kill, progress, seeds."""

import json
import logging
import os
import signal
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest

from mnist_vae.params import TrainingParams
from mnist_vae.vae import training
from mnist_vae.vae.callbacks import TrainingFailedError
from mnist_vae.vae.model import VariationalAutoencoder
from mnist_vae.vae.networks import build_decoder, build_encoder
from mnist_vae.vae.training import Batches, fit

N, BLOCK = 1000, 32  # images and the block size of the tests of their order
PARAMS = {
    "epochs": 4,
    "batch_size": 16,
    "learning_rate": 0.01,
    "steps_per_execution": 1,
    "early_stopping_patience": None,
    "jit_compile": False,
    "resample_input": False,
}


@pytest.fixture
def pixels():
    return np.random.default_rng(0).random((40, 784)).astype("float32")


@pytest.fixture
def digits():
    """Training and validation images with a pattern to learn, and noise to overfit."""
    random = np.random.default_rng(0)
    pattern = random.random(784)
    return [(random.random((40, 784)) < pattern).astype("float32") for _ in range(2)]


def train(*args, backup=None, warm_start=False, seed=1, **params):
    params = TrainingParams(**PARAMS | params)
    return fit(*args, params, seed=seed, backup=backup, warm_start=warm_start).history


def new_vae(seed=None):
    size = {"hidden_units": (16,), "seed": 1}
    return VariationalAutoencoder(build_encoder(**size), build_decoder(**size), seed=seed)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.01, 0.01, 0.01, 0.01]),
        ("linear", [0.0075, 0.005, 0.0025, 0.0]),
        ("cosine", [0.01 * (1 + np.cos(np.pi * t)) / 2 for t in (0.25, 0.5, 0.75, 1.0)]),
    ],
)
def test_the_learning_rate_follows_its_schedule(pixels, schedule, rates):
    history = train(new_vae(), pixels, pixels, learning_rate_schedule=schedule)
    assert history["learning_rate"] == pytest.approx(rates, abs=1e-7)


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


def test_the_weight_of_the_kl_term_rises_to_its_value(pixels):
    history = {
        k: np.array(v)
        for k, v in train(new_vae(), pixels, pixels, epochs=6, kl_warmup_epochs=4).items()
    }
    weights = (history["loss"] - history["reconstruction"]) / history["kl"]
    assert weights == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0], rel=0.02)


def test_early_stopping_ends_with_the_weights_of_the_best_epoch(digits):
    vae = new_vae()
    params = {"epochs": 60, "learning_rate": 0.03, "learning_rate_schedule": "constant"}
    history = train(vae, *digits, **params, early_stopping_patience=3)
    best = int(np.argmin(history["val_loss"]))
    assert len(history["val_loss"]) == best + 1 + 3 < 60
    report = vae.evaluate(digits[1], verbose=0, return_dict=True)
    assert report["loss"] == pytest.approx(history["val_loss"][best], rel=0.01)


def broken_pixel(vae, images):
    images[0][17, 300] = np.nan


def broken_validation(vae, images):
    images[1] *= np.float32(np.nan)


def exploding_variance(vae, images):
    vae.encoder.get_layer("z_log_var").bias.assign([40.0, 40.0])


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (broken_pixel, r"The training loss became nan in epoch 1, .* try"),
        (broken_validation, "The validation loss became nan in epoch 1,"),
        (exploding_variance, "exploded with the encoder's z_log_var: it was"),
    ],
)
def test_training_that_diverges_ends_and_says_what_to_try(pixels, spoil, message, warm_start):
    vae, images = new_vae(), [pixels.copy(), pixels.copy()]
    spoil(vae, images)
    with pytest.raises(TrainingFailedError, match=message):
        train(vae, *images, warm_start=warm_start)


@pytest.mark.parametrize("patience", [None, 2])
def test_a_validation_loss_that_never_improves_is_an_error_but_of_a_model_that_comes_trained(
    pixels, patience
):
    def stubborn():
        """A model that trains its last layer alone."""
        vae = new_vae()
        vae.decoder.trainable = vae.encoder.trainable = False
        vae.decoder.get_layer("logits").trainable = True
        return vae

    # Training learns a white sheet while validation is black.
    images = np.ones_like(pixels), np.zeros_like(pixels)
    params = {"early_stopping_patience": patience, "learning_rate_schedule": "constant"}
    with pytest.raises(TrainingFailedError, match=r"did not improve in [34] epochs"):
        train(stubborn(), *images, **params)
    vae = stubborn()
    history = train(vae, *images, **params, warm_start=True)
    assert history["val_loss"] == sorted(history["val_loss"])
    report = vae.evaluate(images[1], verbose=0, return_dict=True)
    expected = history["val_loss"][-1 if patience is None else 0]
    assert report["loss"] == pytest.approx(expected, rel=0.05)


def test_bytes_train_as_their_grey_values_do(pixels):
    grey = np.rint(255 * pixels).astype(np.uint8)
    as_bytes = train(new_vae(), grey, grey)
    as_floats = train(new_vae(), *2 * [(grey / 255).astype(np.float32)])
    assert as_bytes["val_loss"] == pytest.approx(as_floats["val_loss"], rel=1e-5)


def test_steps_between_two_returns_to_python_change_nothing(pixels):
    one, many = (
        train(new_vae(), pixels, pixels, batch_size=7, steps_per_execution=steps)
        for steps in (1, 100)
    )
    assert one == many


def test_same_seed_same_history_and_other_seed_another(pixels):
    first, again, other = (train(new_vae(), pixels, pixels, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


class Memory:
    """A store of backups that is interrupted after some epochs."""

    def __init__(self, epochs=None, interval=0.0):
        self.state = None
        self.epochs = epochs
        self.interval = interval

    def load(self):
        return self.state

    def save(self, state):
        arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        values = {name: value for name, value in state.items() if name not in arrays}
        self.state = json.loads(json.dumps(values)) | arrays
        if state["epoch"] == self.epochs:
            self.epochs = None
            raise KeyboardInterrupt


def check_resumed(images, whole, history, store, **params):
    """Check that a training that resumes from the store ends as the whole one did."""
    resumed = new_vae(seed=3)
    assert train(resumed, *images, **params, backup=store) == history
    for expected, received in zip(whole.variables, resumed.variables, strict=True):
        if "kl" not in received.path and "reconstruction" not in received.path:
            assert np.array_equal(expected, received), received.path


@pytest.mark.parametrize(
    ("patience", "refine_steps", "optimizer"), [(None, 0, "adam"), (3, 2, "muon")]
)
def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(
    digits, patience, refine_steps, optimizer
):
    params = {
        "epochs": 6,
        "learning_rate": 0.03,
        "resample_input": True,
        "refine_steps": refine_steps,
        "early_stopping_patience": patience,
        "optimizer": optimizer,
    }
    whole = new_vae(seed=3)
    history = train(whole, *digits, **params)
    for epochs in (2, len(history["loss"])):
        store = Memory(epochs)
        with pytest.raises(KeyboardInterrupt):
            train(new_vae(seed=3), *digits, **params, backup=store)
        check_resumed(digits, whole, history, store, **params)


def test_an_interruption_saves_the_last_whole_epoch_however_short_ago_the_last_save_was(
    digits, monkeypatch
):
    """Ctrl-C in the third epoch, when the weights are no longer those of the second."""
    whole, store = new_vae(seed=3), Memory(interval=60.0)
    history = train(whole, *digits)
    read = Batches.__getitem__

    def interrupted(self, index):
        if self.epoch == 2 and index == 1:
            signal.raise_signal(signal.SIGINT)
        return read(self, index)

    shuffle = Batches.shuffle

    def noted(self, epoch):
        self.epoch = epoch
        shuffle(self, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "epoch", -1, raising=False)
        patch.setattr(Batches, "shuffle", noted)
        patch.setattr(Batches, "__getitem__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(new_vae(seed=3), *digits, backup=store)
    assert store.state["epoch"] == 2
    check_resumed(digits, whole, history, store)
    assert store.state["epoch"] == 4, "the last one is there until the model is saved"


def test_progress_is_some_ten_lines_when_no_one_watches(pixels, caplog):
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        train(new_vae(), pixels, pixels, epochs=43, early_stopping_patience=40, learning_rate=1e-9)
    lines = [record.message for record in caplog.records]
    assert [line.split(":")[0] for line in lines] == [
        f"Epoch {epoch}/43" for epoch in (1, *range(4, 43, 4), 43)
    ]
    for word in ("loss", "reconstruction", "KL", "validation", "images/s", "left"):
        assert word in lines[1]


def test_the_first_epoch_does_not_say_how_long_the_rest_takes_as_it_compiles(pixels, caplog):
    store = Memory(2)
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        with pytest.raises(KeyboardInterrupt):
            train(new_vae(), pixels, pixels, epochs=5, backup=store)
        train(new_vae(), pixels, pixels, epochs=5, backup=store)
    lines = [record.message for record in caplog.records if record.name.startswith("mnist_vae")]
    assert [line[:9] for line in lines] == [f"Epoch {epoch}/5" for epoch in (1, 3, 4, 5)]
    assert [" left" in line for line in lines] == [False, False, True, False]


def test_progress_is_one_bar_of_80_columns_on_a_terminal(pixels, monkeypatch):
    leader, follower = os.openpty()
    shown = []

    def read():
        with suppress(OSError):  # the other end is closed
            while True:
                shown.append(os.read(leader, 4096))

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        train(new_vae(), pixels, pixels, epochs=3)
    reader.join()
    os.close(leader)
    text = b"".join(shown).decode()
    assert text.count("\n") == 1
    *_, last = filter(str.strip, text.split("\r"))
    assert len(last.strip()) <= 80
    for part in ("epoch 3/3", "100%", "images/s", "left", "loss", "KL"):
        assert part in last


@pytest.fixture
def numbered(monkeypatch):
    """Images that their first two pixels tell apart, in small blocks."""
    monkeypatch.setattr(training, "_BLOCK", BLOCK)
    images = np.random.default_rng(0).integers(0, 256, (N, 784)).astype(np.uint8)
    images[:, 0], images[:, 1] = np.arange(N) % 256, np.arange(N) // 256
    return images


def rows_of(batches, epoch):
    batches.shuffle(epoch)
    return [
        (batch[:, 0].astype(int) + 256 * batch[:, 1].astype(int)).tolist()
        for batch in map(batches.__getitem__, range(len(batches)))
    ]


@pytest.mark.parametrize("at_a_time", [1, 100, N])
@pytest.mark.parametrize("batch_size", [7, 256, N])
def test_an_epoch_has_whole_batches_and_no_image_twice(numbered, batch_size, at_a_time):
    found = rows_of(Batches(numbered, batch_size, 1, at_a_time), 0)
    assert len(found) == N // batch_size
    assert {len(batch) for batch in found} == {batch_size}
    seen = [row for batch in found for row in batch]
    assert len(set(seen)) == len(seen)
    assert seen != sorted(seen)


def test_every_image_comes_in_some_epoch(numbered):
    batches = Batches(numbered, 300, 1, 100)
    assert {row for n in range(30) for batch in rows_of(batches, n) for row in batch} == set(
        range(N)
    )


@pytest.mark.parametrize("at_a_time", [100, N])
def test_the_order_follows_from_seed_and_epoch_alone(numbered, at_a_time):
    def order(seed, epoch):
        return rows_of(Batches(numbered, 32, seed, at_a_time), epoch)

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_what_is_shuffled_at_a_time_comes_from_few_blocks_all_over_the_file(numbered):
    found = rows_of(Batches(numbered, 8 * BLOCK, 1, 8 * BLOCK), 0)
    blocks = [{row // BLOCK for row in batch} for batch in found]
    assert all(8 <= len(block) <= 10 for block in blocks)
    assert np.ptp(list(blocks[0])) > N // BLOCK // 2


def test_without_a_seed_they_come_in_their_order_with_the_rest(numbered):
    fed = np.concatenate([batch.numpy() for batch in Batches(numbered, 96).dataset()])
    np.testing.assert_array_equal(fed, (numbered / np.float32(255)).astype(np.float32))
