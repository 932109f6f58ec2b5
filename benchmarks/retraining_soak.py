"""A year of scheduled retrainings: 52 runs with batches of every kind, kills and restarts.

    python benchmarks/retraining_soak.py [--small] [--runs N] [--seed S]

Every week a batch comes, or none: good (some under names of 250 bytes, or names that are not
UTF-8), drifted, bad (truncated, constant, of another size, with test images in it, a PNG that
claims to be huge, a text under the name .png, a link that leads nowhere, a small file that
unpacks to a gigabyte) or a duplicate of an earlier one. The scheduler runs `kedro retrain` in
a process of its own, on a handful of the embedded sample; one run in three is
killed (`kill -9`) at a random moment, and started again. Now and then a batch in use is withdrawn,
and one of these runs may be killed too. All the while a reader reads the model in service, file by
file.

One JSON line: runs, promotions, kept, nothing new, quarantined batches, withdrawn ones, kills;
`images_lost`, of the good batches that are neither in use nor withdrawn at the end, and of the
others that are not in quarantine; `duplicate_ids` and `changed_ids`, of images in use or withdrawn;
`mixtures`, the times that the reader found files of two models together, or a damaged one.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import common
import numpy as np
import pyarrow.parquet as pq

from mnist_vae.data.archive import ImageArchiveDataset
from mnist_vae.data.idx import IdxDataset

GOOD = ("good", "drifted", "long", "bytes")
BAD = ("truncated", "constant", "size", "leak", "huge", "format", "dangling", "bomb", "duplicate")
KINDS = ["good"] * 8 + ["long", "bytes", "drifted"] * 2 + [*BAD, "none"]
BATCH = 40
PARAMS = "split.max_images=400,training.epochs=2,training.jit_compile=false,retraining.min_gain=0"


def command(*words: str) -> list[str]:
    """Return the arguments of `kedro`."""
    return [*words, "--env=test", f"--params={PARAMS}"]


class Year:
    """The project, what was put into it, and what is read from it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.project = common.copy_project(folder)
        self.data = self.project / "data/test"
        self.intermediate = self.data / "02_intermediate"
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        archive = ImageArchiveDataset(
            path=str(folder),
            order=["sample"],
            mirrors=[],
            files={key: {"name": key} for key in common.FILES},
        ).load()
        self.images, self.labels = archive.images.pictures, archive.images.label
        self.fresh: list[int] = []  # rows of the sample that no split and no batch has
        self.good: dict[str, set[bytes]] = {}
        self.bad: dict[str, int] = {}
        self.ids: dict[bytes, int] = {}
        self.changed_ids = 0
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
        spoil(kind, folder)
        if kind in GOOD:
            self.good[name] = {image.tobytes() for image in images}
        else:
            self.bad[name] = len(list(folder.iterdir()))
        ending = {"long": "-" + "x" * 235, "bytes": os.fsdecode(b"\xff")}.get(kind, "")
        folder.rename(folder.with_name(name + ending))
        return kind

    def withdraw(self) -> str | None:
        """Take a batch out of use, if there is one, and return its name; some runs are killed."""
        keys = sorted(path.stem for path in (self.intermediate / "batches").glob("*.parquet"))
        if not keys:
            return None
        key = self.random.choice(keys)
        # A name as the journal has it may hold what the command line gives a meaning to.
        if not key.replace("-", "").replace(".", "").isalnum():
            return None
        arguments = command("withdraw", key)
        moment = self.random.uniform(0.5, 6) if self.random.random() < 1 / 2 else None
        result = self.run(moment, arguments) or self.run(None, arguments)
        assert result is not None
        assert result["outcome"] == "withdrawn", result
        return key

    def run(
        self, kill_after: float | None, arguments: list[str] | None = None
    ) -> dict[str, Any] | None:
        """Run the job; return its last line, or None when it was killed before that."""
        process = subprocess.Popen(
            [Path(sys.executable).with_name("kedro"), *(arguments or command("retrain"))],
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
        if not lines or process.returncode not in (0, 65, 66):
            raise RuntimeError(f"The run ended with {process.returncode}: {err}")
        result: dict[str, Any] = json.loads(lines[-1])
        return result

    def look_at_ids(self) -> None:
        """Note the ids of all images in use or withdrawn, and count those that changed."""
        for image, image_id in self.stored():
            self.changed_ids += self.ids.setdefault(image, image_id) != image_id

    def stored(self) -> list[tuple[bytes, int]]:
        """Return pixels and id of every image in use or withdrawn."""
        rows = []
        for folder in ("batches", "withdrawn_batches"):
            for path in (self.intermediate / folder).glob("[!.]*.parquet"):
                table = pq.read_table(path, columns=["pixels", "image_id"])
                rows += zip(table["pixels"].to_pylist(), table["image_id"].to_pylist(), strict=True)
        return rows

    def images_lost(self) -> int:
        """Return how many images are neither in use, nor withdrawn, nor in quarantine."""
        used = {image for image, _ in self.stored()}
        lost = sum(len(images - used) for images in self.good.values())
        for name, files in self.bad.items():
            folder = self.data / f"01_raw/quarantine/{name}"
            lost += BATCH * (not folder.is_dir() or len(list(folder.iterdir())) != files)
        return lost


def spoil(kind: str, folder: Path) -> None:
    """Do to the files of a batch what its kind says."""
    path = folder / "images-idx3-ubyte"
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "dangling":
        (folder / "more-idx3-ubyte").symlink_to("nowhere")
    elif kind == "bomb":
        header = bytes([0, 0, 8, 3]) + np.array([1_300_000, 28, 28], ">u4").tobytes()
        with gzip.open(path.with_suffix(".gz"), "wb", compresslevel=9) as packed:
            packed.write(header)
            for _ in range(1_300_000 * 784 >> 20):
                packed.write(bytes(1 << 20))
        path.unlink()
    elif kind in ("huge", "format"):
        for file in folder.iterdir():
            file.unlink()
        if kind == "format":
            (folder / "a.png").write_text("no picture")
        else:
            size = struct.pack(">2I5B", 20_000, 20_000, 8, 0, 0, 0, 0)
            chunk = b"IHDR" + size
            (folder / "a.png").write_bytes(
                b"\x89PNG\r\n\x1a\n"
                + struct.pack(">I", len(size))
                + chunk
                + struct.pack(">I", zlib.crc32(chunk))
            )


class Reader(threading.Thread):
    """Read the model in service, again and again, as one who knows no Kedro would."""

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
        if year.random.random() < 1 / 6 and (key := year.withdraw()):
            year.count["withdrawn"] += 1
            common.say(f"withdrawn: {key}")
        year.look_at_ids()
        common.say(f"week {week}: {kind}, {result['outcome']}, {result['seconds']} s")
    reader.ended = True
    reader.join()
    for problem in reader.problems:
        common.say(problem)
    return {
        "runs": runs,
        "promotions": year.count["promoted"],
        "kept": year.count["kept"],
        "stalled": year.count["stalled"],
        "nothing_new": year.count["nothing_new"],
        "bad_data": year.count["bad_data"],
        "quarantined": len(list((year.data / "01_raw/quarantine").glob("*.json"))),
        "withdrawn": year.count["withdrawn"],
        "kills": year.count["kills"],
        "images_delivered": BATCH * (len(year.good) + len(year.bad)),
        "images_lost": year.images_lost(),
        "duplicate_ids": len(ids := [image_id for _, image_id in year.stored()]) - len(set(ids)),
        "changed_ids": year.changed_ids,
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
    common.report("retraining_soak", {"seed": arguments.seed, **result})


if __name__ == "__main__":
    main()
