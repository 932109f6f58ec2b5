"""Encoding on Dask with one and with two workers: one machine, loopback.

    python benchmarks/encode_scale.py FOLDER [--small] [--images N] [--rounds N]

The images are those of the IDX files in FOLDER, repeated; the networks have the default size and
are not trained, as that makes no difference to speed. Each contender is held to as many cores as
it has workers (`taskset`), with all its processes; a worker of Dask is held to a core of its own
too. All take turns. Beside them are what there is to reach, two copies of the encoding function
that know nothing of each other, a core each; and the process of a run as it is by default, with
both cores. The line of JSON has for Dask the images a second, the efficiency (of two workers,
compared with twice one), the share of what two copies reach, and the seconds until it has started
and for the first pass, in which the workers import TensorFlow.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from common import median, parser, quartiles, read_images, report, say

BATCH_SIZE = 1024


def pass_over(folder: Path, count: int) -> Any:
    """Return what yields batches of `count` images and noise each time it is called."""
    pixels = np.concatenate(read_images(folder))
    noise = np.random.default_rng(1).standard_normal((BATCH_SIZE, 2), np.float32)

    def batches() -> Iterator[Any]:
        for start in range(0, count, BATCH_SIZE):
            rows = np.arange(start, min(start + BATCH_SIZE, count)) % len(pixels)
            yield pixels[rows], noise[: len(rows)]

    return batches


def contend(folder: Path, engine: str, workers: int, count: int) -> None:
    """Be a contender: say when it has started, then encode the images at each line of stdin."""
    from mnist_vae.encoding.batches import Encoding, encode, identity_of, save_models
    from mnist_vae.encoding.engines import running
    from mnist_vae.params import EmbeddingParams
    from mnist_vae.vae.networks import build_decoder, build_encoder

    networks = build_encoder(seed=1), build_decoder(seed=1)
    how = Encoding("binary_crossentropy", 0, 1, threads=1)
    batches = pass_over(folder, count)
    with ExitStack() as stack:
        models = stack.enter_context(tempfile.TemporaryDirectory())
        began = time.perf_counter()
        if engine == "copy":
            save_models(models, *networks)
            expected = identity_of(models)
            encode_all = lambda rows: (encode([b], models, how, expected)[0] for b in rows)  # noqa: E731
        else:
            given = {} if engine == "in_process" else {"workers": workers}
            params = EmbeddingParams(engine=engine, batch_size=BATCH_SIZE, **given)
            encode_all = stack.enter_context(running(params, *networks, how))
            if engine == "dask":
                pin()
        answer(time.perf_counter() - began)
        for _ in sys.stdin:
            began = time.perf_counter()
            rows = sum(len(batch["kl"]) for batch in encode_all(batches()))
            assert rows == count, f"{rows} rows of {count}"
            answer(time.perf_counter() - began)


def pin() -> None:
    """Hold each worker of Dask to a core of its own."""
    from distributed import default_client

    pids = default_client().run(os.getpid).values()
    for core, pid in zip(sorted(os.sched_getaffinity(0)), pids, strict=True):
        command = ["taskset", "--all-tasks", "--cpu-list", "--pid", str(core), str(pid)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def answer(seconds: float) -> None:
    sys.stdout.write(f"{seconds}\n")
    sys.stdout.flush()


class Contender:
    """Processes that encode the same images at the same time, on some cores."""

    def __init__(self, folder: Path, engine: str, workers: int, cores: list[int], count: int):
        apart = [[core] for core in cores] if engine == "copy" else [cores]
        self.images = count * len(apart)
        self.processes = [
            subprocess.Popen(
                [
                    *("taskset", "--cpu-list", ",".join(map(str, some))),
                    *(sys.executable, __file__, str(folder)),
                    *("--contend", engine, "--workers", str(workers), "--images", str(count)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for some in apart
        ]
        self.start_seconds = self._answers()
        self.first_seconds = self.encode()
        self.rates: list[float] = []

    def encode(self) -> float:
        """Encode the images once, and return the seconds."""
        for process in self.processes:
            process.stdin.write("encode\n")
            process.stdin.flush()
        return self._answers()

    def _answers(self) -> float:
        answers = [process.stdout.readline() for process in self.processes]
        if not all(answers):
            raise RuntimeError("A contender died: see what it wrote on stderr.")
        return max(map(float, answers))

    def end(self) -> None:
        for process in self.processes:
            process.stdin.close()
            process.wait()

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: Any) -> None:
        self.end()


def figures(one: Contender, two: Contender, ceiling: Contender) -> dict[str, Any]:
    """Return the figures of a contender, with one worker and with two."""
    both = {"1": one, "2": two}
    rates = {workers: median(contender.rates) for workers, contender in both.items()}
    return {
        "images_per_second": {workers: round(rate) for workers, rate in rates.items()},
        "quartiles": {
            workers: [round(q) for q in quartiles(c.rates)] for workers, c in both.items()
        },
        "efficiency": round(rates["2"] / (2 * rates["1"]), 3),
        "of_two_copies": round(rates["2"] / median(ceiling.rates), 3),
        "start_seconds": {workers: round(c.start_seconds, 1) for workers, c in both.items()},
        "first_pass_seconds": {workers: round(c.first_seconds, 1) for workers, c in both.items()},
    }


def compare(arguments: argparse.Namespace, cores: list[int]) -> dict[str, Any]:
    """Start all contenders, let them take turns, and return the figures."""
    with ExitStack() as stack:
        started: dict[tuple[str, int], Contender] = {}
        for engine in ("copy", "dask"):
            for workers in (1, 2):
                some = (cores * 2)[:workers] if engine == "copy" else cores[:workers]
                contender = Contender(arguments.folder, engine, workers, some, arguments.images)
                started[engine, workers] = stack.enter_context(contender)
                say(f"{engine} {workers}: started after {contender.start_seconds:.1f} s")
        default = stack.enter_context(
            Contender(arguments.folder, "in_process", 1, cores, arguments.images)
        )
        for _ in range(arguments.rounds):
            for contender in (*started.values(), default):
                contender.rates.append(contender.images / contender.encode())
        ceiling = started["copy", 2]
        copies = figures(started["copy", 1], ceiling, ceiling)
        return {
            "copies": {name: copies[name] for name in ("images_per_second", "efficiency")},
            "in_process": round(median(default.rates)),
            "dask": figures(started["dask", 1], started["dask", 2], ceiling),
        }


def main() -> None:
    """Run the benchmark."""
    command_line = parser(__doc__)
    command_line.add_argument("--images", type=int, default=280_000, help="that are encoded")
    command_line.add_argument("--rounds", type=int, default=5)
    command_line.add_argument("--contend", help=argparse.SUPPRESS)
    command_line.add_argument("--workers", type=int, default=1, help=argparse.SUPPRESS)
    arguments = command_line.parse_args()
    if arguments.contend:
        contend(arguments.folder, arguments.contend, arguments.workers, arguments.images)
        return
    if arguments.small:
        arguments.images, arguments.rounds = 3000, 1
    cores = sorted(os.sched_getaffinity(0))[:2]
    load = os.getloadavg()[0]
    report(
        {
            "benchmark": "encode_scale",
            "where": "one machine, loopback",
            "cores": len(cores),
            "n_images": arguments.images,
            "rounds": arguments.rounds,
            "load_before": round(load, 2),
            **compare(arguments, cores),
        }
    )


if __name__ == "__main__":
    main()
