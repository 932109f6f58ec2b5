"""Training: schedules, early stopping, divergence, going on after a kill, progress, seeds."""

import fcntl
import json
import logging
import os
import struct
import termios

import keras
import numpy as np
import pytest

from mnist_vae.params import TrainingParams
from mnist_vae.vae import callbacks, feeding
from mnist_vae.vae import training as training_module
from mnist_vae.vae.callbacks import TrainingFailedError
from mnist_vae.vae.model import VariationalAutoencoder
from mnist_vae.vae.networks import build_decoder, build_encoder
from mnist_vae.vae.training import fit

PARAMS = {
    "epochs": 4,
    "batch_size": 16,
    "learning_rate": 0.01,
    "learning_rate_schedule": "linear",
    "beta_2": 0.99,
    "kl_warmup_epochs": 0,
    "steps_per_execution": 1,
    "early_stopping_patience": None,
    "jit_compile": False,
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
    params = TrainingParams(**{"resample_input": False, **params})
    return fit(*args, params, seed=seed, backup=backup, warm_start=warm_start).history


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
    history = train(new_vae(), pixels, pixels, **PARAMS | {"learning_rate_schedule": schedule})
    assert history["learning_rate"] == pytest.approx(rates, abs=1e-7)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_muon_takes_the_hidden_layers_of_the_decoder_and_adam_all_else(digits, jit_compile):
    """Adam's first step is the learning rate; Muon's has singular values of one size."""
    params = {"epochs": 1, "batch_size": 40, "learning_rate_schedule": "constant"}
    vae = new_vae()
    before = [np.asarray(kernel) for kernel in vae.trainable_variables]
    train(vae, *digits, **PARAMS | params | {"optimizer": "muon", "jit_compile": jit_compile})
    steps = [np.asarray(w) - b for w, b in zip(vae.trainable_variables, before, strict=True)]
    by_muon = [layer.kernel for layer in vae.decoder.layers if layer.name.startswith("hidden_")]
    assert by_muon
    for weight, step in zip(vae.trainable_variables, steps, strict=True):
        if any(weight is kernel for kernel in by_muon):
            size = 0.01 * 0.2 * np.sqrt(max(step.shape))  # Liu et al. (2025), section 2.2
            singular = np.linalg.svd(step, compute_uv=False) / size
            assert ((singular > 0.6) & (singular < 1.3)).all(), weight.path
        else:
            moved = np.abs(step[step != 0])
            assert np.median(moved) == pytest.approx(0.01, rel=0.01), weight.path


def test_early_stopping_ends_with_the_weights_of_the_best_epoch(digits):
    vae = new_vae()
    params = {"epochs": 60, "learning_rate": 0.03, "learning_rate_schedule": "constant"}
    history = train(vae, *digits, **PARAMS | params | {"early_stopping_patience": 3})
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
        (broken_pixel, r"The training loss became nan in epoch 1, batch \d, .* try"),
        (broken_validation, "The validation loss became nan in epoch 1,"),
        (exploding_variance, "exploded with the encoder's z_log_var: it was"),
    ],
)
def test_training_that_diverges_ends_and_says_what_to_try(pixels, spoil, message, warm_start):
    vae, images = new_vae(), [pixels.copy(), pixels.copy()]
    spoil(vae, images)
    with pytest.raises(TrainingFailedError, match=message):
        train(vae, *images, **PARAMS, warm_start=warm_start)


@pytest.mark.parametrize("patience", [None, 2])
def test_a_validation_loss_that_never_improves_is_an_error(pixels, patience):
    params = {"early_stopping_patience": patience, "learning_rate_schedule": "constant"}
    with pytest.raises(TrainingFailedError, match=r"did not improve in [34] epochs"):
        train(stubborn_vae(), *white_and_black(pixels), **PARAMS | params)


def stubborn_vae():
    """Return a model that trains its last layer alone."""
    vae = new_vae()
    vae.decoder.trainable = vae.encoder.trainable = False
    vae.decoder.get_layer("logits").trainable = True
    return vae


def white_and_black(pixels):
    """Return images of which training learns a white sheet while validation is black."""
    return np.ones_like(pixels), np.zeros_like(pixels)


@pytest.mark.parametrize("patience", [None, 2])
def test_a_warm_start_that_never_improves_ends_with_the_best_epoch_all_the_same(pixels, patience):
    vae = stubborn_vae()
    params = {"early_stopping_patience": patience, "learning_rate_schedule": "constant"}
    images = white_and_black(pixels)
    history = train(vae, *images, **PARAMS | params, warm_start=True)
    assert history["val_loss"] == sorted(history["val_loss"])
    report = vae.evaluate(images[1], verbose=0, return_dict=True)
    expected = history["val_loss"][-1 if patience is None else 0]
    assert report["loss"] == pytest.approx(expected, rel=0.05)


def test_bytes_train_as_their_grey_values_do(pixels):
    grey = np.rint(255 * pixels).astype(np.uint8)
    as_bytes = train(new_vae(), grey, grey, **PARAMS)
    as_floats = train(new_vae(), *2 * [(grey / 255).astype(np.float32)], **PARAMS)
    assert as_bytes["val_loss"] == pytest.approx(as_floats["val_loss"], rel=1e-5)


def test_every_epoch_has_whole_batches_of_other_images_in_an_order_of_its_own():
    images = np.repeat(np.arange(10, dtype=np.uint8)[:, np.newaxis], 784, axis=1)
    batches = feeding.Batches(images, 4, seed=1)
    left_over = set()
    orders = set()
    for epoch in range(20):
        batches.shuffle(epoch)
        seen = [round(255 * row) for batch in batches.dataset() for row in batch.numpy()[:, 5]]
        assert len(set(seen)) == len(seen) == 8
        left_over |= set(range(10)) - set(seen)
        orders.add(tuple(seen))
        after_a_kill = feeding.Batches(images, 4, seed=1)
        after_a_kill.shuffle(epoch)
        assert after_a_kill[0][:, 0].tolist() == seen[:4]
    assert left_over == set(range(10))
    assert len(orders) == 20


def test_the_weight_of_the_kl_term_rises_to_its_value(pixels):
    weights = []

    class Record(callbacks.WarmUpKl):
        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch, logs)
            weights.append(float(self.model.kl_warmup))

    vae = new_vae()
    vae.compile(keras.optimizers.Adam())
    vae.fit(pixels, epochs=6, callbacks=[Record(4)], verbose=0)
    assert weights == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_steps_between_two_returns_to_python_change_nothing(pixels):
    histories = [
        train(new_vae(), pixels, pixels, **PARAMS | {"batch_size": 7, "steps_per_execution": steps})
        for steps in (1, 2, 100)
    ]
    assert histories[0] == histories[1] == histories[2]


class Memory:
    """A store of backups that dies after some epochs."""

    def __init__(self, epochs=None, interval=0.0):
        self.state = None
        self.epochs = epochs
        self.interval = interval

    def load(self):
        return self.state

    def save(self, state):
        self.state = json.loads(
            json.dumps({k: v for k, v in state.items() if k not in arrays(state)})
        )
        self.state |= arrays(state)
        if state["epoch"] == self.epochs:
            raise KeyboardInterrupt


def arrays(state):
    return {name: value for name, value in state.items() if isinstance(value, np.ndarray)}


@pytest.mark.parametrize(
    ("patience", "refine_steps", "optimizer"),
    [(None, 0, "adam"), (3, 2, "muon")],
)
def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(
    digits, patience, refine_steps, optimizer
):
    def noisy_vae():
        networks = new_vae()
        return VariationalAutoencoder(networks.encoder, networks.decoder, seed=3)

    noise = {"resample_input": True, "refine_steps": refine_steps}
    params = noise | {"epochs": 6, "learning_rate": 0.03, "early_stopping_patience": patience}
    params = PARAMS | params | {"optimizer": optimizer}
    whole = noisy_vae()
    history = train(whole, *digits, **params)
    for epochs in (2, len(history["loss"])):
        store = Memory(epochs)
        with pytest.raises(KeyboardInterrupt):
            train(noisy_vae(), *digits, **params, backup=store)
        store.epochs = None
        resumed = noisy_vae()
        assert train(resumed, *digits, **params, backup=store) == history
        for expected, received in zip(whole.variables, resumed.variables, strict=True):
            if "kl" not in received.path and "reconstruction" not in received.path:
                assert np.array_equal(expected, received), received.path


def test_an_interruption_saves_the_last_whole_epoch_however_short_ago_the_last_save_was(digits):
    class Interrupt(callbacks.RecordLearningRate):
        """Ctrl-C in the third epoch, when the weights are no longer those of the second."""

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == 2:
                raise KeyboardInterrupt

    params = PARAMS | {"epochs": 4, "learning_rate": 0.03}
    whole, store = new_vae(), Memory(interval=60.0)
    history = train(whole, *digits, **params)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_module, "RecordLearningRate", Interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(new_vae(), *digits, **params, backup=store)
    assert store.state["epoch"] == 2
    resumed = new_vae()
    assert train(resumed, *digits, **params, backup=store) == history
    assert store.state["epoch"] == 4, "the last one is there until the model is saved"


def test_a_training_on_shuffled_blocks_that_was_interrupted_ends_as_if_it_had_not_been(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(feeding, "BLOCK", 32)

    def mapped(n):
        pattern = np.random.default_rng(5).random(784)
        ink = np.random.default_rng(n).random((n, 784)) < pattern
        (255 * ink).astype(np.uint8).tofile(tmp_path / f"{n}.pixels")
        return np.memmap(tmp_path / f"{n}.pixels", np.uint8, "r", shape=(n, 784))

    images = mapped(200), mapped(50)
    params = PARAMS | {"batch_size": 48, "epochs": 2, "shuffle_images": 64}
    whole = new_vae()
    history = train(whole, *images, **params)
    store = Memory(1)
    with pytest.raises(KeyboardInterrupt):
        train(new_vae(), *images, **params, backup=store)
    store.epochs = None
    resumed = new_vae()
    assert train(resumed, *images, **params, backup=store) == history
    for expected, received in zip(whole.weights, resumed.weights, strict=True):
        if "kl" not in received.path and "reconstruction" not in received.path:
            assert np.array_equal(expected, received), received.path


def test_same_seed_same_history_and_other_seed_another(pixels):
    histories = [train(new_vae(), pixels, pixels, **PARAMS | {"seed": seed}) for seed in (1, 1, 2)]
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]


def test_progress_is_one_line_an_epoch_when_nobody_watches(pixels, caplog):
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        train(new_vae(), pixels, pixels, **PARAMS | {"epochs": 2})
    lines = [record.message for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith("Epoch 1/2: loss ")
    for word in ("reconstruction", "KL", "validation", "images/s", "left"):
        assert word in lines[1]
    assert "left" not in lines[0], "it compiles, which says nothing of the epochs to come"


def test_the_first_epoch_of_a_resumed_training_does_not_say_how_long_the_rest_takes(pixels, caplog):
    store = Memory(2)
    with pytest.raises(KeyboardInterrupt):
        train(new_vae(), pixels, pixels, **PARAMS, backup=store)
    store.epochs = None
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="mnist_vae"):
        train(new_vae(), pixels, pixels, **PARAMS, backup=store)
    third, fourth = (record.message for record in caplog.records)
    assert third.startswith("Epoch 3/4")
    assert "left" not in third
    assert "left" in fourth


@pytest.mark.parametrize(("columns", "last"), [(0, "images/s"), (120, "KL")])
def test_progress_is_one_bar_on_a_terminal_also_of_unknown_width(
    columns, last, pixels, monkeypatch
):
    leader, follower = os.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(callbacks.sys, "stderr", terminal)
        train(new_vae(), pixels, pixels, **PARAMS | {"epochs": 3})
    bar = os.read(leader, 1 << 16).decode()
    os.close(leader)
    for part in ("epoch 3/3", "100%", last):
        assert part in bar
    assert bar.count("\n") == 1
