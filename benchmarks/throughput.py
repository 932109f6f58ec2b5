"""Images a second of the training step: ours, plain Keras, PyTorch, and the matrix products alone.

    python benchmarks/throughput.py FOLDER [--small] [--torch-python PATH] [--only NAME ...]

Each contestant is a process of its own, with its own thread pools. They take turns: an epoch of
the training images each, then the next round, so that one works at a time and a slow minute hits
all of them. The first epoch of each, in which it compiles, does not count. Start-up, compilation
and validation are outside of the clock; shuffling and feeding the images are inside. Reported are
the medians over the rounds, of the ratios too; `ratio_quartiles` tell how steady they were. The
machine has to be idle otherwise.

ours           `mnist_vae.vae.training.fit` with the default parameters, all its callbacks too.
ours_mapped  The same with the images on disk, mapped, and 16,384 of them shuffled at a time.
plain_keras    The same networks and -ELBO as most would write them: a `train_step` with a
               gradient tape, cross-entropy of the sigmoid's output, Adam, `fit` on a float32 array.
torch_eager    The same networks in PyTorch: cross-entropy from logits, fused Adam, the images
               resident as one float32 tensor.
torch_compile  The same with `torch.compile` of the loss, forward and backward.
matmul_limit   The twelve matrix products of a step and nothing else: forward, weight gradient and
               input gradient of the four large layers, 6.4 MFLOP an image, in float32, by
               whichever of NumPy and PyTorch is faster. It is no hard limit: an eighth of it, the
               input gradient of the first layer, is what a training step does not need.

PyTorch may be in another environment (`--torch-python`); without it its figures are null. The
contestants hold some 5 GB together.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, TextIO

import common
import numpy as np

SEED = 7
LAYERS = ((784, 512), (512, 256), (256, 512), (512, 784))

Turn = Callable[[float], None]


def _ours(
    folder: Path, batch_size: int, turn: Turn, *, mapped: bool = False, **values: Any
) -> None:
    from mnist_vae.params import ModelParams, TrainingParams
    from mnist_vae.vae.networks import build_decoder, build_encoder
    from mnist_vae.vae.training import fit

    train = np.load(folder / "train.npy")
    n_images = len(train) // batch_size * batch_size
    if mapped:
        train.tofile(folder / f"train_{batch_size}.pixels")
        train = np.memmap(folder / f"train_{batch_size}.pixels", np.uint8, "r", shape=train.shape)
    values |= {"batch_size": batch_size, "epochs": 1000, "early_stopping_patience": None}
    params = TrainingParams(**values)
    clock = common.keras_clock(n_images, turn)

    vae = common.watched_vae(clock)(
        build_encoder(seed=SEED),
        build_decoder(seed=SEED),
        ModelParams().reconstruction,
        SEED,
    )
    fit(vae, train, np.load(folder / "validation.npy"), params, seed=SEED)


def _ours_mapped(folder: Path, batch_size: int, turn: Turn) -> None:
    _ours(folder, batch_size, turn, mapped=True, shuffle_images=16_384)


def plain_vae(seed: int) -> Any:
    """Return the autoencoder as most would write it, with `encoder` and `decoder`."""
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
            self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction")
            self.kl_tracker = keras.metrics.Mean(name="kl")

        def train_step(self, images: Any) -> dict[str, Any]:
            with tf.GradientTape() as tape:
                z_mean, z_log_var, z = self.encoder(images)
                pixels = self.decoder(z)
                reconstruction = ops.mean(784 * keras.losses.binary_crossentropy(images, pixels))
                kl = -0.5 * (1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var))
                kl = ops.mean(ops.sum(kl, axis=1))
                loss = reconstruction + kl
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
            self.loss_tracker.update_state(loss)
            self.reconstruction_tracker.update_state(reconstruction)
            self.kl_tracker.update_state(kl)
            return {metric.name: metric.result() for metric in self.metrics}

    pixels = keras.Input((784,))
    x = layers.Dense(512, activation="relu")(pixels)
    x = layers.Dense(256, activation="relu")(x)
    z_mean, z_log_var = layers.Dense(2)(x), layers.Dense(2)(x)
    encoder = keras.Model(pixels, [z_mean, z_log_var, Sampling()([z_mean, z_log_var])])
    z = keras.Input((2,))
    x = layers.Dense(256, activation="relu")(z)
    x = layers.Dense(512, activation="relu")(x)
    x = layers.Dense(784, name="logits")(x)  # by its name `score_batches` finds it
    decoder = keras.Model(z, layers.Activation("sigmoid")(x))
    return Vae(encoder, decoder)


def _plain_keras(folder: Path, batch_size: int, turn: Turn) -> None:
    import keras

    train = np.load(folder / "train.npy").astype("float32") / 255
    vae = plain_vae(SEED)
    vae.compile(optimizer=keras.optimizers.Adam(1e-3))
    clock = common.keras_clock(len(train), turn)
    vae.fit(train, epochs=1000, batch_size=batch_size, callbacks=[clock], verbose=0)


def _torch_eager(folder: Path, batch_size: int, turn: Turn, compiled: bool = False) -> None:
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
    loss = torch.compile(vae) if compiled else vae
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3, fused=True)
    n_images = len(train) // batch_size * batch_size

    def epoch() -> None:
        for rows in torch.randperm(len(train))[:n_images].split(batch_size):
            optimizer.zero_grad()
            loss(train.index_select(0, rows)).backward()
            optimizer.step()

    _take_turns(epoch, n_images, turn)


def _torch_compile(folder: Path, batch_size: int, turn: Turn) -> None:
    _torch_eager(folder, batch_size, turn, compiled=True)


def _matmul_numpy(folder: Path, batch_size: int, turn: Turn) -> None:
    _matmul(folder, batch_size, turn, np.asarray, np.matmul)


def _matmul_torch(folder: Path, batch_size: int, turn: Turn) -> None:
    import torch

    _matmul(folder, batch_size, turn, torch.from_numpy, torch.mm)


def _matmul(
    folder: Path, batch_size: int, turn: Turn, tensor: Callable[..., Any], product: Any
) -> None:
    random = np.random.default_rng(SEED)

    def normal(*shape: int) -> Any:
        return tensor(random.standard_normal(shape, np.float32))

    products = []  # left, right, where to put it
    for n_in, n_out in LAYERS:
        x, weights, gradient = (
            normal(batch_size, n_in),
            normal(n_in, n_out),
            normal(batch_size, n_out),
        )
        products.append((x, weights, normal(batch_size, n_out)))
        products.append((x.T, gradient, normal(n_in, n_out)))
        products.append((gradient, weights.T, normal(batch_size, n_in)))
    steps = len(np.load(folder / "train.npy", mmap_mode="r")) // batch_size

    def epoch() -> None:
        for _ in range(steps):
            for left, right, out in products:
                product(left, right, out=out)

    _take_turns(epoch, steps * batch_size, turn)


def _take_turns(epoch: Callable[[], None], n_images: int, turn: Turn) -> NoReturn:
    while True:
        started = time.perf_counter()
        epoch()
        turn(n_images / (time.perf_counter() - started))


CONTESTANTS: dict[str, Callable[[Path, int, Turn], None]] = {
    "ours": _ours,
    "ours_mapped": _ours_mapped,
    "plain_keras": _plain_keras,
    "torch_eager": _torch_eager,
    "torch_compile": _torch_compile,
    "matmul_numpy": _matmul_numpy,
    "matmul_torch": _matmul_torch,
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
        self._log = folder / f"{name}_{batch_size}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python, __file__, str(folder), "--worker", name, "--batch-size", str(batch_size)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._pipes: tuple[TextIO, TextIO] = (self._process.stdin, self._process.stdout)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        self._process.wait()

    def rate(self) -> float:
        """Return the images a second of the epoch that is under way."""
        answer = self._pipes[1].readline()
        if not answer:
            raise RuntimeError(
                f"{self._log.read_text(errors='replace')}{self._log.stem} ended with status "
                f"{self._process.wait()}"
            )
        return float(answer)

    def go(self) -> None:
        """Start the next epoch."""
        self._pipes[0].write("\n")
        self._pipes[0].flush()


def _torch_version(python: str) -> str | None:
    found = subprocess.run(
        [python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True
    )
    return found.stdout.strip() or None


def _start(
    python: str, name: str, folder: Path, batch_size: int, stack: ExitStack
) -> Worker | None:
    """Return the contestant, warm, or None when this machine cannot do what it asks for."""
    common.say(f"{name}, {batch_size} images a step: warming up")
    worker = stack.enter_context(Worker(python, name, folder, batch_size))
    try:
        worker.rate()
    except RuntimeError as error:
        if "torch" not in name:
            raise
        common.say(f"{error}; its figures are null")
        return None
    return worker


def _measure(
    folder: Path, only: list[str], sizes: list[int], rounds: int, torch_python: str | None
) -> dict[tuple[str, int], list[float]]:
    """Return each contestant's images a second, a value a round."""
    with ExitStack() as stack:
        workers = {}
        for name in only:
            python = torch_python if "torch" in name else sys.executable
            for size in sizes if name != "plain_keras" else [128]:
                worker = python and _start(python, name, folder, size, stack)
                if worker:
                    workers[name, size] = worker
        rates: dict[tuple[str, int], list[float]] = {key: [] for key in workers}
        for number in range(rounds):
            for key, worker in workers.items():
                worker.go()
                rates[key].append(worker.rate())
            last = (f"{name} {size}: {rates[name, size][-1]:,.0f}" for name, size in rates)
            common.say(f"round {number + 1} of {rounds}: {', '.join(last)}")
    return rates


def main() -> None:
    """Run the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--torch-python",
        metavar="PATH",
        default=sys.executable,
        help="the interpreter that has PyTorch and NumPy (default: this one)",
    )
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contestant")
    parser.add_argument(
        "--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), help="contestants"
    )
    parser.add_argument("--worker", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--batch-size", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        _work(args.worker, args.folder, args.batch_size)
        return

    from mnist_vae.params import TrainingParams

    default = TrainingParams().batch_size
    sizes = sorted({128, default})
    train, test = common.read_images(args.folder)
    if args.small:
        train = train[: 4 * max(sizes)]
    rounds = 2 if args.small else args.rounds
    torch = _torch_version(args.torch_python)
    if torch is None:
        common.say(f"{args.torch_python} has no PyTorch: its figures are null")
    with tempfile.TemporaryDirectory() as name:
        np.save(Path(name) / "train.npy", train)
        np.save(Path(name) / "validation.npy", test[:256])
        rates = _measure(Path(name), args.only, sizes, rounds, torch and args.torch_python)

    def fastest(size: int, *names: str) -> tuple[str, int] | None:
        there = [(name, size) for name in names if (name, size) in rates]
        return max(there, key=lambda key: common.median(rates[key]), default=None)

    limits = {size: fastest(size, "matmul_numpy", "matmul_torch") for size in sizes}
    against = {
        "ours_to_plain_keras_at_128": ("plain_keras", 128),
        "ours_to_best_torch_at_128": fastest(128, "torch_eager", "torch_compile"),
        "ours_to_best_torch_at_default": fastest(default, "torch_eager", "torch_compile"),
        "ours_to_matmul_limit_at_128": limits[128],
        "ours_to_matmul_limit_at_default": limits[default],
        "ours_mapped_to_ours_at_default": ("ours", default),
    }

    def rates_of(name: str, size: int) -> list[float]:
        return rates.get((name.split("_to_", maxsplit=1)[0], size), [])

    ratios = {
        name: [ours / other for ours, other in zip(rates_of(name, key[1]), rates[key], strict=True)]
        for name, key in against.items()
        if key in rates and rates_of(name, key[1])
    }
    medians: dict[str, dict[str, int] | None] = {
        name: {str(s): round(common.median(rates[name, s])) for s in sizes if (name, s) in rates}
        or None
        for name in CONTESTANTS
    }
    medians["matmul_limit"] = {
        str(size): round(common.median(rates[key])) for size, key in limits.items() if key
    }
    common.report(
        {
            "benchmark": "throughput",
            "small": args.small,
            "images": len(train),
            "rounds": rounds,
            "cores": os.cpu_count(),
            "default_batch_size": default,
            "images_per_second": medians,
            "ratios": {
                name: round(common.median(ratios[name]), 3) if name in ratios else None
                for name in against
            },
            "ratio_quartiles": {
                name: [round(value, 3) for value in common.quartiles(values)]
                for name, values in ratios.items()
            },
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("keras", "numpy", "tensorflow")},
                "torch": torch,
            },
        }
    )


if __name__ == "__main__":
    main()
