"""Images a second of the training step: ours, plain Keras, PyTorch, and the matrix products alone.

    python benchmarks/throughput.py FOLDER [--small] [--torch-python PATH] [--only NAME ...]

Each contestant is a process of its own, with its own thread pools. They take turns: an epoch of
the training images each, then the next round, so that one works at a time and a slow minute hits
all. The first epoch of each, in which it compiles, does not count. Start-up, compilation and
validation are outside of the clock; shuffling and feeding the images are inside. Reported are the
medians over the rounds, and those of the ratios to `ours` of the same round, with their quartiles.
The machine has to be idle otherwise.

ours           `mnist_vae.vae.training.fit` with the default parameters, all its callbacks too.
ours_mapped    The same with the images on disk, mapped, and 16,384 of them shuffled at a time.
plain_keras    The same networks and −ELBO as most would write them: a `train_step` with a
               gradient tape, cross-entropy of the sigmoid's output, Adam, `fit` on a float32 array.
torch          The same networks in PyTorch: `torch.compile` of the cross-entropy from logits, fused
               Adam, the images resident as one float32 tensor.
matmul         The twelve matrix products of a step and nothing else: forward, weight gradient and
               input gradient of the four large layers, 6.4 MFLOP an image, in float32 by NumPy. It
               is no hard limit: the input gradient of the first layer, an eighth, is not needed.

PyTorch may be in another environment (`--torch-python`); a contestant that cannot start has null.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import common
import numpy as np

SEED = 7
LAYERS = ((784, 512), (512, 256), (256, 512), (512, 784))

Turn = Callable[[float], None]


def keras_clock(n_images: int, turn: Turn) -> Any:
    """Return a callback, the last of all, that times the steps of each epoch."""
    import keras

    class Clock(keras.callbacks.Callback):
        started = 0.0
        rate: float | None = None

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if self.rate is not None:
                turn(self.rate)
            self.rate = None
            self.started = time.perf_counter()

        def on_test_begin(self, logs: Any = None) -> None:  # the validation of this epoch
            self.rate = n_images / (time.perf_counter() - self.started)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if self.rate is None:
                self.on_test_begin()

    return Clock()


def watched_vae(callback: Any) -> Any:
    """Return the class of the training model, with one callback more when it is trained."""
    from mnist_vae.vae.model import VariationalAutoencoder

    class Watched(VariationalAutoencoder):
        def fit(self, *args: Any, callbacks: list[Any], **kwargs: Any) -> Any:
            return super().fit(*args, callbacks=[*callbacks, callback], **kwargs)

    return Watched


def _ours(folder: Path, batch_size: int, turn: Turn, mapped: bool = False) -> None:
    from mnist_vae.params import ModelParams, TrainingParams
    from mnist_vae.vae.networks import build_decoder, build_encoder
    from mnist_vae.vae.training import fit

    train = np.load(folder / "train.npy", mmap_mode="r" if mapped else None)
    values: dict[str, Any] = {"shuffle_images": 16_384} if mapped else {}
    values |= {"batch_size": batch_size, "epochs": 1000, "early_stopping_patience": None}
    clock = keras_clock(len(train) // batch_size * batch_size, turn)
    networks = build_encoder(seed=SEED), build_decoder(seed=SEED)
    vae = watched_vae(clock)(*networks, ModelParams().reconstruction, SEED)
    fit(vae, train, np.load(folder / "validation.npy"), TrainingParams(**values), seed=SEED)


def plain_vae(seed: int) -> Any:
    """Return the autoencoder as most would write it."""
    import keras
    import tensorflow as tf
    from keras import layers, ops

    keras.utils.set_random_seed(seed)

    class Sampling(layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.seed_generator = keras.random.SeedGenerator(seed)

        def call(self, inputs: Any) -> Any:
            z_mean, z_log_var = inputs
            epsilon = keras.random.normal(ops.shape(z_mean), seed=self.seed_generator)
            return z_mean + ops.exp(0.5 * z_log_var) * epsilon

    class Vae(keras.Model):
        def __init__(self, encoder: Any, decoder: Any) -> None:
            super().__init__()
            self.encoder = encoder
            self.decoder = decoder
            self.loss_tracker = keras.metrics.Mean(name="loss")

        def train_step(self, images: Any) -> dict[str, Any]:
            with tf.GradientTape() as tape:
                z_mean, z_log_var, z = self.encoder(images)
                pixels = self.decoder(z)
                reconstruction = ops.mean(784 * keras.losses.binary_crossentropy(images, pixels))
                kl = -0.5 * (1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var))
                loss = reconstruction + ops.mean(ops.sum(kl, axis=1))
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
            self.loss_tracker.update_state(loss)
            return {"loss": self.loss_tracker.result()}

    pixels = keras.Input((784,))
    x = layers.Dense(512, activation="relu")(pixels)
    x = layers.Dense(256, activation="relu")(x)
    z_mean, z_log_var = layers.Dense(2)(x), layers.Dense(2)(x)
    encoder = keras.Model(pixels, [z_mean, z_log_var, Sampling()([z_mean, z_log_var])])
    z = keras.Input((2,))
    x = layers.Dense(256, activation="relu")(z)
    x = layers.Dense(512, activation="relu")(x)
    decoder = keras.Model(z, layers.Dense(784, activation="sigmoid")(x))
    return Vae(encoder, decoder)


def _plain_keras(folder: Path, batch_size: int, turn: Turn) -> None:
    import keras

    train = np.load(folder / "train.npy").astype("float32") / 255
    vae = plain_vae(SEED)
    vae.compile(optimizer=keras.optimizers.Adam(1e-3))
    clock = keras_clock(len(train), turn)
    vae.fit(train, epochs=1000, batch_size=batch_size, callbacks=[clock], verbose=0)


def _torch(folder: Path, batch_size: int, turn: Turn) -> None:
    import torch
    from torch.nn import functional

    torch.manual_seed(SEED)

    class Vae(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            linear, relu = torch.nn.Linear, torch.nn.ReLU()
            self.encoder = torch.nn.Sequential(linear(784, 512), relu, linear(512, 256), relu)
            self.z_mean, self.z_log_var = linear(256, 2), linear(256, 2)
            hidden = (linear(2, 256), relu, linear(256, 512), relu)
            self.decoder = torch.nn.Sequential(*hidden, linear(512, 784))

        def forward(self, images: Any) -> Any:
            x = self.encoder(images)
            z_mean, z_log_var = self.z_mean(x), self.z_log_var(x)
            z = z_mean + torch.exp(0.5 * z_log_var) * torch.randn_like(z_mean)
            reconstruction = functional.binary_cross_entropy_with_logits(
                self.decoder(z), images, reduction="sum"
            )
            kl = -0.5 * torch.sum(1 + z_log_var - z_mean.square() - z_log_var.exp())
            return (reconstruction + kl) / len(images)

    train = torch.from_numpy(np.load(folder / "train.npy")).float() / 255
    vae = Vae()
    loss = torch.compile(vae)
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3, fused=True)
    n_images = len(train) // batch_size * batch_size

    def epoch() -> None:
        for rows in torch.randperm(len(train))[:n_images].split(batch_size):
            optimizer.zero_grad()
            loss(train.index_select(0, rows)).backward()
            optimizer.step()

    _take_turns(epoch, n_images, turn)


def _matmul(folder: Path, batch_size: int, turn: Turn) -> None:
    random = np.random.default_rng(SEED)

    def normal(*shape: int) -> Any:
        return random.standard_normal(shape, np.float32)

    products = []  # left, right, where to put it
    for n_in, n_out in LAYERS:
        x, weights = normal(batch_size, n_in), normal(n_in, n_out)
        gradient = normal(batch_size, n_out)
        products.append((x, weights, normal(batch_size, n_out)))
        products.append((x.T, gradient, normal(n_in, n_out)))
        products.append((gradient, weights.T, normal(batch_size, n_in)))
    steps = len(np.load(folder / "train.npy", mmap_mode="r")) // batch_size

    def epoch() -> None:
        for _ in range(steps):
            for left, right, out in products:
                np.matmul(left, right, out=out)

    _take_turns(epoch, steps * batch_size, turn)


def _take_turns(epoch: Callable[[], None], n_images: int, turn: Turn) -> NoReturn:
    while True:
        started = time.perf_counter()
        epoch()
        turn(n_images / (time.perf_counter() - started))


CONTESTANTS: dict[str, Callable[[Path, int, Turn], None]] = {
    "ours": _ours,
    "ours_mapped": functools.partial(_ours, mapped=True),
    "plain_keras": _plain_keras,
    "torch": _torch,
    "matmul": _matmul,
}


def _work(name: str, folder: Path, batch_size: int) -> None:
    """Be a contestant: answer each epoch's images a second, and wait for a line before the next."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer

    def turn(rate: float) -> None:
        answers.write(f"{rate}\n")
        answers.flush()
        if not sys.stdin.readline():
            os._exit(0)  # the benchmark is over

    CONTESTANTS[name](folder, batch_size, turn)


class Worker:
    """A contestant's process, seen from the benchmark."""

    def __init__(self, python: str, name: str, folder: Path, batch_size: int) -> None:
        command = [python, __file__, str(folder), "--worker", name, "--batch-size", f"{batch_size}"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()

    def rate(self, start: bool = False) -> float | None:
        """Return the images a second of the epoch under way, or of a next one that this starts.

        None if the process ended.
        """
        if start:
            self._process.stdin.write("\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
        answer = self._process.stdout.readline()  # type: ignore[union-attr]
        return float(answer) if answer else None


def _measure(
    folder: Path, names: list[str], batch_size: int, rounds: int, torch_python: str
) -> dict[str, list[float]]:
    """Return the images a second of each contestant that can start, a value a round."""
    with ExitStack() as stack:
        workers = {}
        for name in names:
            common.say(f"{name}, {batch_size} images a step: warming up")
            python = torch_python if "torch" in name else sys.executable
            worker = stack.enter_context(Worker(python, name, folder, batch_size))
            if worker.rate() is not None:
                workers[name] = worker
        rates: dict[str, list[float]] = {name: [] for name in workers}
        for number in range(rounds):
            for name, worker in workers.items():
                rates[name].append(worker.rate(start=True) or 0.0)
            last = {name: round(found[-1]) for name, found in rates.items()}
            common.say(f"round {number + 1} of {rounds}: {last}")
    return rates


def main() -> None:
    """Run the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument("--torch-python", metavar="PATH", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contestant")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--batch-size", type=int, help="default: that of the recipe")
    parser.add_argument("--worker", choices=CONTESTANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        _work(args.worker, args.folder, args.batch_size)
        return

    from mnist_vae.params import TrainingParams

    batch_size = args.batch_size or TrainingParams().batch_size
    train, test = common.read_images(args.folder)
    rounds = 2 if args.small else args.rounds
    with tempfile.TemporaryDirectory() as name:
        np.save(Path(name) / "train.npy", train[: 4 * batch_size] if args.small else train)
        np.save(Path(name) / "validation.npy", test[:256])
        rates = _measure(Path(name), args.only, batch_size, rounds, args.torch_python)
    ratios = {}
    for other in rates.keys() - {"ours"} if "ours" in rates else ():
        quartiles = np.quantile(np.divide(rates["ours"], rates[other]), (0.25, 0.5, 0.75))
        ratios[other] = dict(zip(("lower", "median", "upper"), quartiles.round(3), strict=True))
    medians = {
        name: round(float(np.median(rates[name]))) if name in rates else None for name in args.only
    }
    result = {"batch_size": batch_size, "rounds": rounds, "images_per_second": medians}
    common.report("throughput", {**result, "ours_to": ratios})


if __name__ == "__main__":
    main()
