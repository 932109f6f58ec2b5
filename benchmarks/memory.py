"""Memory: copies of the images that training holds, and what mapping them takes instead.

    python benchmarks/memory.py FOLDER [--small] [--sizes N ...] [--folder-for-images PATH]

Copies: each contestant trains for one epoch in a process of its own, once on the images in FOLDER
and once on four times as many (the same ones over and over). The growth of the peak resident memory
over that of the images, as bytes, is the number of copies; whatever does not grow with the images,
such as TensorFlow itself, cancels out. The images are generated in place: nothing else holds them.
Plain Keras takes float32, four times the size, so that one copy of its input counts as 4.

Mapped: 70,000, 700,000 and 7,000,000 images, MNIST over and over, each image moved by a pixel at
most, go from Parquet files to a table, splits, a model (one epoch, or as many steps as `--steps`
says), metrics with one draw of z, embeddings, anomaly scores with one step of refinement, and the
scatter, by the project's own nodes and data sets. `anonymous_megabytes` is the most memory of each
stage that the system cannot drop, sampled every 20 ms, whatever was there before it included; the
same stages in memory are next to them for sizes up to 700,000. 7,000,000 images take 20 GB of disk.

Speed: an epoch of mapped images, and one of the images in memory, take turns (`throughput`).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
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


def peak(name: str, n_images: int) -> int:
    """Return the peak resident memory of a training on so many images, bytes."""
    return int(run(".", name, n_images)["peak"])


def run(folder: Path | str, name: str, n_images: int, *arguments: str) -> dict[str, Any]:
    """Return what a contestant reports, a process of its own."""
    command = [sys.executable, __file__, str(folder), "--worker", name, "--images", str(n_images)]
    finished = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


def work(name: str, n_images: int) -> None:
    """Be a contestant: train for an epoch, and report the peak."""
    images = np.random.default_rng(0).integers(0, 256, (n_images, 784), np.uint8)
    if name == "ours":
        from mnist_vae.params import TrainingParams
        from mnist_vae.vae.model import VariationalAutoencoder
        from mnist_vae.vae.networks import build_decoder, build_encoder
        from mnist_vae.vae.training import fit

        networks = build_encoder(seed=1), build_decoder(seed=1)
        vae = VariationalAutoencoder(*networks, seed=1)
        fit(vae, images, images[:1000], TrainingParams(epochs=1), seed=1)
    else:
        import keras
        from throughput import plain_vae

        pixels = np.divide(images, 255, dtype=np.float32)
        del images
        model = plain_vae(1)
        model.compile(optimizer=keras.optimizers.Adam(1e-3))
        model.fit(pixels, epochs=1, batch_size=128, verbose=0)
    common.report({"peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss})


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
    common.report({"images": n_images})


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

        watcher = threading.Thread(target=look)
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
    from mnist_vae.data.image_table import ImagesDataset
    from mnist_vae.data.parquet_archive import ParquetArchiveDataset
    from mnist_vae.data.tables import TableDataset
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
    common.report(
        {"anonymous_megabytes": measured.peaks, "images_per_second": measured.rates, "steps": steps}
    )


def use(
    measured: Stages, splits: list[Any], embeddings: Any, manifest: dict[str, Any], steps: int
) -> None:
    """Train, evaluate, embed, score and draw, each time with images that are loaded for it."""
    import mnist_vae.vae.model
    from mnist_vae.params import (
        AnomalyParams,
        EmbeddingParams,
        EvaluationParams,
        ModelParams,
        ReportingParams,
        TrainingParams,
    )
    from mnist_vae.pipelines.anomaly.nodes import calibrate_anomalies, score_anomalies
    from mnist_vae.pipelines.embedding.nodes import embed_splits
    from mnist_vae.pipelines.evaluation.nodes import evaluate_vae
    from mnist_vae.pipelines.reporting.nodes import draw_latent_scatter
    from mnist_vae.recipe import new_decoder, new_encoder, train

    def loaded() -> list[Any]:
        return [split.load() for split in splits]

    sizes = [len(images) for images in loaded()]
    batch_size = TrainingParams().batch_size
    mnist_vae.vae.model.VariationalAutoencoder = common.watched_vae(stop_after(steps))
    with measured.stage("training", min(steps * batch_size, sizes[0])):
        model = train(
            *(make(ModelParams(), 1) for make in (new_encoder, new_decoder)),
            *loaded()[:2],
            manifest,
            ModelParams(),
            TrainingParams(epochs=1),
            1,
            None,
        )
    networks, summary = (model.encoder, model.decoder), model.summary
    with measured.stage("evaluation", sum(sizes)):
        evaluate_vae(*networks, *loaded(), summary, EvaluationParams(z_samples=1), 1)
    with measured.stage("embedding", sum(sizes)):
        embeddings.save(embed_splits(*networks, *loaded(), summary, EmbeddingParams(), 1))
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


def speed(source: Path, small: bool) -> dict[str, Any]:
    """Return the images a second of mapped images and of those in memory, in turns."""
    from throughput import Worker

    from mnist_vae.params import TrainingParams

    train, test = common.read_images(source)
    rounds = 2 if small else 9
    rates: dict[str, list[float]] = {"ours": [], "ours_mapped": []}
    with tempfile.TemporaryDirectory() as name:
        np.save(Path(name) / "train.npy", train[:2048] if small else train)
        np.save(Path(name) / "validation.npy", test[:256])
        workers = [
            Worker(sys.executable, contestant, Path(name), TrainingParams().batch_size)
            for contestant in rates
        ]
        with workers[0], workers[1]:
            for worker in workers:
                worker.rate()  # the first epoch compiles
            for _ in range(rounds):
                for worker, found in zip(workers, rates.values(), strict=True):
                    worker.go()
                    found.append(worker.rate())
    ratios = [s / m for s, m in zip(rates["ours_mapped"], rates["ours"], strict=True)]
    return {
        "rounds": rounds,
        "images_per_second": {name: round(common.median(found)) for name, found in rates.items()},
        "mapped_to_memory": round(common.median(ratios), 3),
        "quartiles": [round(value, 3) for value in common.quartiles(ratios)],
    }


def mapped(
    source: Path, sizes: list[int], steps: int, place: Path | None
) -> dict[str, dict[str, Any]]:
    """Return the peaks of each size, mapped and in memory."""
    found: dict[str, dict[str, Any]] = {}
    for n_images in sizes:
        with tempfile.TemporaryDirectory(dir=place) as name:
            raw = Path(name) / "raw"
            run(source, "write", n_images, "--to", str(raw))
            common.say(f"{n_images:,} images, mapped")
            found[str(n_images)] = {"mapped": run(raw, "mapped", n_images, "--steps", f"{steps}")}
            if n_images <= IN_MEMORY:
                common.say(f"{n_images:,} images, in memory")
                found[str(n_images)]["memory"] = run(
                    raw, "in_memory", n_images, "--steps", f"{steps}"
                )
    return found


def copies(few: int) -> dict[str, Any]:
    """Return the copies of the images that each contestant holds."""
    peaks = {
        name: [peak(name, n_images) for n_images in (few, 4 * few)]
        for name in ("ours", "plain_keras")
    }
    return {
        "images": [few, 4 * few],
        "peak_megabytes": {name: [round(b / 1e6) for b in p] for name, p in peaks.items()},
        "copies": {
            name: round((more - less) / (3 * few * 784), 2) for name, (less, more) in peaks.items()
        },
    }


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
    workers: dict[str, Callable[[], None]] = {
        "ours": lambda: work("ours", n_images),
        "plain_keras": lambda: work("plain_keras", n_images),
        "write": lambda: write_images(arguments.to, arguments.folder, n_images),
        "mapped": lambda: stages(arguments.folder, n_images, 0, steps),
        "in_memory": lambda: stages(arguments.folder, n_images, None, steps),
    }
    if arguments.worker:
        workers[arguments.worker]()
        return
    small = arguments.small
    sizes = arguments.sizes
    if sizes is None:
        sizes = [2_000] if small else list(SIZES)
    few = 5_000 if small else len(common.read_images(arguments.folder)[0])
    common.report(
        {
            "benchmark": "memory",
            "small": small,
            **copies(few),
            "mapped": mapped(arguments.folder, sizes, steps, arguments.folder_for_images),
            "speed": speed(arguments.folder, small),
        }
    )


if __name__ == "__main__":
    main()
