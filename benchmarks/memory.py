"""Memory: what mapping the images takes, stage by stage, instead of holding them.

    python benchmarks/memory.py FOLDER [--small] [--sizes N ...] [--folder-for-images PATH]

70,000, 700,000 and 7,000,000 images, MNIST over and over, each image moved by a pixel at most, go
from Parquet files to a table, splits, a model (one epoch, or as many steps as `--steps` says),
metrics with one draw of z, embeddings, anomaly scores with one step of refinement, and the scatter,
by the project's own nodes and data sets. `anonymous_megabytes` is the most memory of each stage
that the system cannot drop, sampled every 20 ms, whatever was there before it included; the same
stages in memory are next to them for sizes up to 700,000. 7,000,000 images take 20 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

SEED = 11  # of the jitter
SIZES = (70_000, 700_000, 7_000_000)
IN_MEMORY = 700_000  # images that are put in memory to compare, at most
_FILE = 1 << 18  # images of a raw file


def run(folder: Path | str, name: str, n_images: int, *arguments: str) -> dict[str, Any]:
    """Return what a contestant reports, a process of its own."""
    command = [sys.executable, __file__, str(folder), "--worker", name, "--images", str(n_images)]
    finished = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


def answer(result: dict[str, Any]) -> None:
    """Report as a contestant."""
    sys.stdout.write(json.dumps(result) + "\n")


def write_images(folder: Path, source: Path, n_images: int) -> None:
    """Write so many images as Parquet files: those of `source` over and over, moved by a pixel."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pixels = np.concatenate(common.read_images(source)).reshape(-1, 28, 28)
    folder.mkdir()
    random = np.random.default_rng(SEED)
    for number, start in enumerate(range(0, n_images, _FILE)):
        rows = np.arange(start, min(start + _FILE, n_images))
        moved = jittered(pixels[rows % len(pixels)], random)
        values = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(784), len(rows), [None, pa.py_buffer(np.ascontiguousarray(moved))]
        )
        split = np.where(random.random(len(rows)) < 1 / 7, "test", "train")
        table = pa.table({"image_id": rows, "split": split.astype(object), "pixels": values})
        pq.write_table(table, folder / f"{number:04d}.parquet", compression="zstd")
    answer({"images": n_images})


def jittered(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Return images `[n, 28, 28]`, each moved by -1, 0 or 1 pixels both ways."""
    shifts = random.integers(-1, 2, (len(pixels), 2))
    moved = np.empty_like(pixels)
    for shift in np.unique(shifts, axis=0):
        rows = (shifts == shift).all(axis=1)
        moved[rows] = np.roll(pixels[rows], tuple(shift), axis=(1, 2))
    return moved


def anonymous() -> int:
    """Return the bytes of this process that are in memory and in no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    parts = dict(line.split(":", 1) for line in lines)
    return 1024 * sum(int(parts[name].split()[0]) for name in ("RssAnon", "RssShmem"))


class Stages:
    """The peak of anonymous memory of each stage, and how many images a second went through it."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self.rates: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str, n_images: int) -> Iterator[None]:
        """Measure what is done inside."""
        found = [anonymous()]
        done = threading.Event()

        def look() -> None:
            while not done.wait(0.02):
                found.append(anonymous())

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        started = time.perf_counter()
        yield
        self.rates[name] = round(n_images / (time.perf_counter() - started))
        done.set()
        watcher.join()
        self.peaks[name] = round(max(found) / 1e6)
        common.say(f"{name}: {self.peaks[name]:,} MB, {self.rates[name]:,} images/s")


def stages(folder: Path, n_images: int, memory_images: int | None, steps: int) -> None:
    """Be a contestant: take the images of `folder` through all stages, and report the peaks."""
    from mnist_vae.data.parquet_archive import ParquetArchiveDataset
    from mnist_vae.data.tables import ImagesDataset, TableDataset
    from mnist_vae.params import SplitParams
    from mnist_vae.pipelines.data.nodes import ingest_images, split_images

    measured = Stages()
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:

        def table(of: str) -> Any:
            return ImagesDataset(filepath=f"{name}/{of}.parquet", memory_images=memory_images)

        with measured.stage("ingestion", n_images):
            archive = ParquetArchiveDataset(path=str(folder), name="jittered MNIST").load()
            images, manifest = ingest_images(archive)
            table("images").save(images)
            del archive, images
        splits = [table(of) for of in ("train", "validation", "test")]
        with measured.stage("splitting", n_images):
            for split, part in zip(
                splits, split_images(table("images").load(), SplitParams(), SEED), strict=True
            ):
                split.save(part)
            del part
        for file in Path(name).glob("images.*"):
            file.unlink()
        embeddings = TableDataset(filepath=f"{name}/embeddings.parquet")
        use(measured, splits, embeddings, manifest, steps)
    answer(
        {"anonymous_megabytes": measured.peaks, "images_per_second": measured.rates, "steps": steps}
    )


def use(
    measured: Stages, splits: list[Any], embeddings: Any, manifest: dict[str, Any], steps: int
) -> None:
    """Train, evaluate, embed, score and draw, each time with images that are loaded for it."""
    from throughput import watched_vae

    import mnist_vae.vae.model
    from mnist_vae.engines import embed
    from mnist_vae.params import (
        AnomalyParams,
        EmbeddingParams,
        EvaluationParams,
        ModelParams,
        ReportingParams,
        TrainingParams,
    )
    from mnist_vae.pipelines.anomaly.nodes import calibrate_anomalies, score_anomalies
    from mnist_vae.pipelines.reporting.nodes import draw_latent_scatter
    from mnist_vae.pipelines.training.nodes import evaluate_vae
    from mnist_vae.recipe import train

    def loaded() -> list[Any]:
        return [split.load() for split in splits]

    sizes = [len(images) for images in loaded()]
    batch_size = TrainingParams().batch_size
    mnist_vae.vae.model.VariationalAutoencoder = watched_vae(stop_after(steps))
    with measured.stage("training", min(steps * batch_size, sizes[0])):
        model = train(*loaded()[:2], manifest, ModelParams(), TrainingParams(epochs=1), 1, None)
    networks, summary = (model.encoder, model.decoder), model.summary
    with measured.stage("evaluation", sum(sizes)):
        evaluate_vae(*networks, *loaded(), summary, EvaluationParams(z_samples=1), 1)
    with measured.stage("embedding", sum(sizes)):
        embeddings.save(embed(*networks, summary, EmbeddingParams(), 1, *loaded()))
    with measured.stage("anomaly scores", sizes[2]):
        train_images, validation_images, test_images = loaded()
        given = summary, AnomalyParams(refine_steps=1), 1
        calibration = calibrate_anomalies(*networks, train_images, validation_images, *given)
        scores = score_anomalies(
            *networks, train_images, test_images, summary, calibration, *given[1:]
        )
        for _ in scores:
            pass
    with measured.stage("scatter", sum(sizes)):
        draw_latent_scatter(embeddings.load(), summary, ReportingParams(), 1)


def stop_after(steps: int) -> Any:
    """Return a callback that ends an epoch after so many steps."""
    import keras

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch + 1 >= steps:
                self.model.stop_training = True

        def on_test_begin(self, logs: Any = None) -> None:  # the validation of this epoch
            self.model.stop_training = False  # the epoch is over, the training is not stopped

    return Stop()


def main() -> None:
    """Run the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", help="of the mapped sets, in images")
    parser.add_argument("--steps", type=int, default=4000, help="of training, at most")
    parser.add_argument(
        "--folder-for-images", type=Path, metavar="PATH", help="where the mapped sets are put"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--images", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    n_images, steps = arguments.images, arguments.steps
    if arguments.worker == "write":
        write_images(arguments.to, arguments.folder, n_images)
        return
    if arguments.worker:
        memory_images = 0 if arguments.worker == "mapped" else None
        stages(arguments.folder, n_images, memory_images, steps)
        return
    found: dict[str, dict[str, Any]] = {}
    for size in arguments.sizes or ([2_000] if arguments.small else SIZES):
        with tempfile.TemporaryDirectory(dir=arguments.folder_for_images) as name:
            raw = Path(name) / "raw"
            run(arguments.folder, "write", size, "--to", str(raw))
            ways = ("mapped", "memory") if size <= IN_MEMORY else ("mapped",)
            for way in ways:
                common.say(f"{size:,} images, {way}")
                result = run(raw, way, size, "--steps", f"{steps}")
                found.setdefault(str(size), {})[way] = result
    common.report("memory", found)


if __name__ == "__main__":
    main()
