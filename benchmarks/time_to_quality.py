"""Seconds until the test −ELBO first reaches 139.6 nats at latent 2: ours and plain Keras.

    python benchmarks/time_to_quality.py FOLDER [--small] [--epochs N]

Three seeds; for each, first ours, then plain Keras (Adam 1e-3, batches of 128, no schedule), each
in a process of its own, on the same 57,000 images. The clock runs from the first call of `fit`,
so that compilation counts, and stands while the test images are scored, after every epoch. Ours
is the recipe `fast`, which has the few epochs that this target needs, as its learning rate falls to
0 over all of them.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import common

ROOT = Path(__file__).parents[1]
TARGET = 139.6
TRAIN_IMAGES = 57_000


def clock(encoder: Any, decoder: Any, test: Any, target: float) -> Any:
    """Return a callback that ends training at the target, and knows after how many seconds."""
    import keras
    import numpy as np

    from mnist_vae.vae.elbo import score_batches

    class Clock(keras.callbacks.Callback):
        seconds = 0.0
        epochs = 0
        negative_elbo = float("inf")

        def on_train_begin(self, logs: Any = None) -> None:
            self.started = time.perf_counter() if not hasattr(self, "started") else self.started

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds += time.perf_counter() - self.started
            batches = (test[start : start + 1000] for start in range(0, len(test), 1000))
            terms = score_batches(
                encoder, decoder, batches, reconstruction="binary_crossentropy", seed=0
            )
            scores = np.concatenate([batch.reconstruction + batch.kl for batch in terms])
            self.negative_elbo = float(scores.mean(dtype=np.float64))
            self.epochs = epoch + 1
            common.say(f"epoch {self.epochs}: {self.negative_elbo:.2f}, {self.seconds:.1f} s")
            self.model.stop_training |= self.negative_elbo <= target
            self.started = time.perf_counter()

    return Clock()


def ours(train: Any, test: Any, seed: int, epochs: int, target: float) -> Any:
    """Train with the recipe `fast` until the target."""
    import yaml

    from mnist_vae.params import ModelParams, TrainingParams
    from mnist_vae.vae.networks import build_decoder, build_encoder
    from mnist_vae.vae.training import fit

    recipe = yaml.safe_load((ROOT / "conf/fast/parameters.yml").read_text())["training"]
    recipe["epochs"] = min(recipe["epochs"], epochs)
    params = TrainingParams(**recipe)
    encoder, decoder = build_encoder(seed=seed), build_decoder(seed=seed)
    watch = clock(encoder, decoder, test, target)

    vae_class = common.watched_vae(watch)
    vae = vae_class(encoder, decoder, ModelParams().reconstruction, seed)
    watch.started = time.perf_counter()  # the loss before training is compiled and computed too
    fit(vae, train[:TRAIN_IMAGES], train[TRAIN_IMAGES:], params, seed=seed)
    return watch


def plain_keras(train: Any, test: Any, seed: int, epochs: int, target: float) -> Any:
    """Train plain Keras until the target."""
    import keras
    from throughput import plain_vae

    vae = plain_vae(seed)
    watch = clock(vae.encoder, vae.decoder, test, target)
    vae.compile(optimizer=keras.optimizers.Adam(1e-3))
    pixels = train[:TRAIN_IMAGES].astype("float32") / 255
    vae.fit(pixels, epochs=epochs, batch_size=128, callbacks=[watch], verbose=0)
    return watch


CONTESTANTS = {"ours": ours, "plain_keras": plain_keras}


def run(arguments: Any, name: str, seed: int, epochs: int, target: float) -> dict[str, Any]:
    """Run a contestant in a process of its own."""
    command = [sys.executable, __file__, str(arguments.folder), "--worker", name]
    command += ["--seed", str(seed), "--epochs", str(epochs), "--target", str(target)]
    common.say(f"{name}, seed {seed}")
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


def work(arguments: Any) -> None:
    """Be a contestant."""
    train, test = common.read_images(arguments.folder)
    test = test.astype("float32") / 255
    watch = CONTESTANTS[arguments.worker](
        train, test, arguments.seed, arguments.epochs, arguments.target
    )
    reached = watch.negative_elbo <= arguments.target
    common.report(
        {
            "seconds": round(watch.seconds, 2) if reached else None,
            "epochs": watch.epochs,
            "negative_elbo": round(watch.negative_elbo, 3),
        }
    )


def main() -> None:
    """Run the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--epochs", type=int, default=20, help="epochs of ours, at most, below the recipe's own"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--worker", choices=CONTESTANTS, help="internal")
    parser.add_argument("--seed", type=int, help="internal")
    parser.add_argument("--target", type=float, default=TARGET, help="nats")
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    seeds, target, most = arguments.seeds, arguments.target, 100
    if arguments.small:
        # An epoch reaches that: no schedule of two would reach the real one.
        seeds, target, arguments.epochs, most = seeds[:1], 180.0, 2, 2
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    for seed in seeds:
        for name in CONTESTANTS:
            epochs = most if name == "plain_keras" else arguments.epochs
            results[name].append(run(arguments, name, seed, epochs, target))

    ratios = [
        plain["seconds"] / ours["seconds"]
        for ours, plain in zip(results["ours"], results["plain_keras"], strict=True)
        if plain["seconds"] and ours["seconds"]
    ]
    common.report(
        {
            "benchmark": "time_to_quality",
            "small": arguments.small,
            "target": target,
            "cores": os.cpu_count(),
            "seeds": seeds,
            **results,
            "plain_to_ours": round(common.median(ratios), 2) if ratios else None,
            "python": platform.python_version(),
        }
    )


if __name__ == "__main__":
    main()
