"""A year of scheduled retrainings: 52 runs with batches of every kind, kills and restarts.

    python tests/benchmarks/retraining_soak.py [--small] [--runs N] [--seed S]

Every week a batch comes, or none: good, drifted, bad (truncated, constant, of another size, with
test images in it) or a duplicate of an earlier one. The scheduler runs `kedro run --pipelines
retraining` in a process of its own, on a handful of the embedded sample; one run in three is
killed (`kill -9`) at a random moment, and started again. All the while a reader reads the model in
service, file by file.

One JSON line: runs, promotions, kept, nothing new, quarantined batches, kills; `images_lost`, of
the good batches that are not in use at the end and of the others that are not in quarantine;
`mixtures`, the times that the reader found files of two models together, or a damaged one.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import pyarrow.parquet as pq

from mnist_vae.datasets.archive import ImageArchiveDataset
from mnist_vae.datasets.idx import IdxDataset

KINDS = ["good"] * 5 + ["drifted", "truncated", "constant", "size", "leak", "duplicate", "none"]
BATCH = 40
PARAMS = "split.max_images=400,training.epochs=2,training.jit_compile=false,retraining.min_gain=0"
COMMAND = ["run", "--pipelines=retraining", "--env=test", f"--params={PARAMS}"]


class Year:
    """The project, what was put into it, and what is read from it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.project = common.copy_project(folder)
        self.data = self.project / "data/test"
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        archive = ImageArchiveDataset(
            path=str(folder),
            order=["sample"],
            mirrors=[],
            files={
                key: {"name": key}
                for key in ("train_images", "train_labels", "test_images", "test_labels")
            },
        ).load()
        self.images, self.labels = archive.train_images, archive.train_labels
        self.fresh: list[int] = []  # rows of the sample that no split and no batch has
        self.good: dict[str, set[bytes]] = {}
        self.bad: dict[str, set[bytes]] = {}
        self.count: collections.Counter[str] = collections.Counter()

    def look_around(self) -> None:
        """After the first run: which images are in no split, and which are test images."""
        splits = self.data / "05_model_input/archive"
        used: set[int] = set()
        for path in splits.glob("*_images.parquet"):
            used.update(pq.read_table(path, columns=["image_id"])["image_id"].to_pylist())
        self.fresh = [row for row in range(len(self.images)) if row not in used]
        self.random.shuffle(self.fresh)
        test = pq.read_table(splits / "test_images.parquet", columns=["image_id"])
        self.test_rows = test["image_id"].to_pylist()

    def deliver(self, week: int) -> str:
        """Put a batch among the incoming ones, whole, and return its kind."""
        kind = self.random.choice(KINDS)
        if kind == "duplicate" and not self.good:
            kind = "good"
        if kind == "none":
            return kind
        name = f"week-{week:02d}-{kind}"
        rows = [self.fresh.pop() for _ in range(BATCH)]
        images = self.images[rows].copy()
        labels: Any = self.labels[rows]
        if kind == "drifted":
            images = 255 - images
        elif kind == "constant":
            images[7] = 0
        elif kind == "size":
            images = images[:, :20]
        elif kind == "leak":
            images[3] = self.images[self.test_rows[0]]
        elif kind == "duplicate":
            images, labels = self.earlier
        elif kind == "good":
            self.earlier = images, labels
        folder = self.data / f"01_raw/incoming/.{name}"
        IdxDataset(filepath=str(folder / "images-idx3-ubyte")).save(images)
        if self.random.random() < 0.5:
            IdxDataset(filepath=str(folder / "labels-idx1-ubyte")).save(labels)
        if kind == "truncated":
            path = folder / "images-idx3-ubyte"
            path.write_bytes(path.read_bytes()[:-100])
        if kind in ("good", "drifted"):
            self.good[name] = {image.tobytes() for image in images}
        else:
            self.bad[name] = {(folder / "images-idx3-ubyte").read_bytes()}
        folder.rename(folder.with_name(name))
        return kind

    def run(self, kill_after: float | None) -> dict[str, Any] | None:
        """Run the job; return its last line, or None when it was killed before it said it."""
        process = subprocess.Popen(
            [Path(sys.executable).with_name("kedro"), *COMMAND],
            cwd=self.project,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            out, err = process.communicate(timeout=kill_after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            self.count["kills"] += 1
            return None
        lines = out.splitlines()
        if not lines or process.returncode not in (0, 65):
            raise RuntimeError(f"The run ended with {process.returncode}: {err}")
        result: dict[str, Any] = json.loads(lines[-1])
        return result

    def images_lost(self) -> int:
        """Return how many images are neither in use nor in quarantine."""
        used: set[bytes] = set()
        for path in (self.data / "02_intermediate/batches").glob("*.parquet"):
            used.update(pq.read_table(path, columns=["pixels"])["pixels"].to_pylist())
        lost = sum(len(images - used) for images in self.good.values())
        for name, (content,) in self.bad.items():
            path = self.data / f"01_raw/quarantine/{name}/images-idx3-ubyte"
            lost += BATCH * (not path.is_file() or path.read_bytes() != content)
        return lost


class Reader(threading.Thread):
    """Read the model in service, again and again, as somebody would who knows no Kedro."""

    def __init__(self, champion: Path) -> None:
        super().__init__(daemon=True)
        self.champion = champion
        self.reads, self.problems, self.ended = 0, [], False

    def run(self) -> None:
        while not self.ended:
            folder = Path(os.path.realpath(self.champion))
            if folder.is_dir():
                self.reads += 1
                try:
                    self.read(folder)
                except (OSError, ValueError, KeyError, AssertionError) as error:
                    self.problems.append(f"{folder.name}: {error!r}")
            time.sleep(0.05)

    @staticmethod
    def read(folder: Path) -> None:
        manifest = json.loads((folder / "release.json").read_text())
        version = manifest["model_version"]
        for name, expected in manifest["files"].items():
            received = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            assert received == expected, name
        embeddings = pq.read_table(folder / "latent_embeddings.parquet", columns=["model_version"])
        assert set(embeddings["model_version"].to_pylist()) == {version}, "embeddings"
        for name in ("training_summary.json", "metrics.json", "decision.json"):
            assert json.loads((folder / name).read_text())["model_version"] == version, name


def simulate(year: Year, runs: int) -> dict[str, Any]:
    """Run the job every week, and return what became of it."""
    reader = Reader(year.data / "06_models/champion")
    reader.start()
    started = time.perf_counter()
    year.run(None)
    seconds = time.perf_counter() - started
    year.count["promoted"] += 1
    year.look_around()
    for week in range(2, runs + 1):
        kind = year.deliver(week)
        moment = year.random.uniform(0.5, 1.1 * seconds) if year.random.random() < 1 / 3 else None
        result = year.run(moment) or year.run(None)
        assert result is not None
        year.count[result["outcome"]] += 1
        common.say(f"week {week}: {kind}, {result['outcome']}, {result['seconds']} s")
    reader.ended = True
    reader.join()
    for problem in reader.problems:
        common.say(problem)
    return {
        "runs": runs,
        "promotions": year.count["promoted"],
        "kept": year.count["kept"],
        "nothing_new": year.count["nothing_new"],
        "bad_data": year.count["bad_data"],
        "quarantined": len(list((year.data / "01_raw/quarantine").glob("*.json"))),
        "kills": year.count["kills"],
        "images_delivered": BATCH * (len(year.good) + len(year.bad)),
        "images_lost": year.images_lost(),
        "reads": reader.reads,
        "mixtures": len(reader.problems),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="four runs")
    parser.add_argument("--runs", type=int, default=52)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        year = Year(Path(folder) / "project", arguments.seed)
        result = simulate(year, 4 if arguments.small else arguments.runs)
    common.report({"benchmark": "retraining_soak", "seed": arguments.seed, **result})


if __name__ == "__main__":
    main()
