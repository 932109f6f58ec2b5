"""Images a second of one worker, and of two that train one model together, by the size of a batch.

    python benchmarks/workers.py FOLDER [--small] [--rounds N]

Each worker is a process of its own on a core of its own (`taskset`): one machine, loopback, which
is the fastest network there is and takes time of the cores itself. `one` is the default path, XLA
and 16 steps at a time; `one_plain` is without either, as several workers have to train; `two` is
`MultiWorkerMirroredStrategy` over two. A batch is that of all workers together, so that the two
are worth it where `two` is above `one`. Start-up, the first epoch, in which steps are compiled,
and validation do not count. Reported are medians over the epochs of all rounds; the contestants
take turns. The machine has to be idle otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import common
import numpy as np

from tests.workers import tf_configs

SEED = 7
SIZES = (256, 1024, 4096, 16384)
CONTESTANTS = ("one", "one_plain", "two")


def _work(folder: Path, batch_size: int, epochs: int, plain: bool) -> None:
    """Train as one of the workers, and answer the images a second of each epoch but the first."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    from mnist_vae.cluster import read_cluster
    from mnist_vae.params import ModelParams, TrainingParams
    from mnist_vae.recipe import config_of, objective_of
    from mnist_vae.vae.networks import build_decoder, build_encoder
    from mnist_vae.vae.training import fit

    workers = None
    cluster = read_cluster("tf_config" if "TF_CONFIG" in os.environ else "none")
    if cluster is not None:
        from mnist_vae.vae.workers import join

        workers = join(cluster, timeout=300)
    train = np.load(folder / "train.npy")
    values: dict[str, Any] = {"batch_size": batch_size, "epochs": epochs + 2}
    if plain:
        values |= {"jit_compile": False, "steps_per_execution": 1}
    params = TrainingParams(**values, early_stopping_patience=None)
    rates: list[float] = []
    clock = common.keras_clock(len(train) // batch_size * batch_size, rates.append)
    vae = common.watched_vae(clock)(
        build_encoder(seed=SEED),
        build_decoder(seed=SEED),
        ModelParams().reconstruction,
        objective_of(params),
        SEED,
    )
    fit(vae, train, np.load(folder / "validation.npy"), config_of(params, SEED), workers=workers)
    answers.write(json.dumps(rates[1:]))


def _measure(name: str, folder: Path, batch_size: int, epochs: int) -> list[float]:
    """Return the images a second of the epochs of one contestant."""
    configs = tf_configs(2) if name == "two" else [None]
    command = [sys.executable, __file__, str(folder), "--worker", name]
    command += ["--batch-size", str(batch_size), "--epochs", str(epochs)]
    processes = []
    for core, config in enumerate(configs):
        environment = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
        if config is not None:
            environment["TF_CONFIG"] = config
        with (folder / f"{name}_{core}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    ["taskset", "-c", str(core), *command],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            )
    answers = [process.communicate()[0] for process in processes]
    for core, (process, answer) in enumerate(zip(processes, answers, strict=True)):
        if process.returncode or not answer:
            raise RuntimeError((folder / f"{name}_{core}.log").read_text(errors="replace"))
    rates: list[float] = json.loads(answers[0])
    return rates


def main() -> None:
    """Run the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="turns of each contestant")
    parser.add_argument("--worker", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--batch-size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        _work(args.folder, args.batch_size, args.epochs, plain=args.worker == "one_plain")
        return
    train, test = common.read_images(args.folder)
    sizes, rounds, epochs = (SIZES[:1], 1, 1) if args.small else (SIZES, args.rounds, 2)
    train = train[: 4 * sizes[0] if args.small else 2 * sizes[-1]]
    rates: dict[int, dict[str, list[float]]] = {
        size: {name: [] for name in CONTESTANTS} for size in sizes
    }
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "train.npy", train)
        np.save(Path(folder) / "validation.npy", test[:256])
        for number in range(rounds):
            for size in sizes:
                for name in CONTESTANTS:
                    rates[size][name] += _measure(name, Path(folder), size, epochs)
                    last = f"{rates[size][name][-1]:,.0f} images/s"
                    common.say(f"round {number + 1} of {rounds}, {size} a batch, {name}: {last}")
    medians = {
        size: {name: round(common.median(values)) for name, values in of_size.items()}
        for size, of_size in rates.items()
    }
    pays = [size for size in sizes if medians[size]["two"] > medians[size]["one"]]
    common.report(
        {
            "benchmark": "workers",
            "small": args.small,
            "where": "one machine, loopback, a core a worker",
            "images": len(train),
            "rounds": rounds,
            "cores": os.cpu_count(),
            "images_per_second": medians,
            "two_to_one": {
                size: round(of_size["two"] / of_size["one"], 3) for size, of_size in medians.items()
            },
            "two_are_faster_from": min(pays, default=None),
            "versions": {name: version(name) for name in ("keras", "tensorflow")},
        }
    )


if __name__ == "__main__":
    main()
