"""What the benchmark scripts share: their command line, the images, the one line of JSON.

NumPy is all that importing this needs: some scripts run parts of themselves elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import queue
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

sys.path.append(str(Path(__file__).parents[1]))
from tests.projects import copy_project, kedro  # noqa: F401


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of `FOLDER [--small]`, to which a script may add."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "folder", type=Path, metavar="FOLDER", help="where the four IDX files are, packed or not"
    )
    result.add_argument(
        "--small", action="store_true", help="show quickly that it works; the figures mean nothing"
    )
    return result


def read_archive(folder: Path) -> Any:
    """Return the `ImageArchive` of the four IDX files."""
    from mnist_vae.data.archive import ImageArchiveDataset

    return ImageArchiveDataset(
        path=str(folder),
        order=["folder"],
        mirrors=[],
        files={
            "train_images": {"name": "train-images-idx3-ubyte"},
            "train_labels": {"name": "train-labels-idx1-ubyte"},
            "test_images": {"name": "t10k-images-idx3-ubyte"},
            "test_labels": {"name": "t10k-labels-idx1-ubyte"},
        },
    ).load()


def read_images(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the training and the test images of the four IDX files, each uint8 `[n, 784]`."""
    archive = read_archive(folder)
    return (
        archive.train_images.reshape(len(archive.train_images), -1),
        archive.test_images.reshape(len(archive.test_images), -1),
    )


def read_splits(folder: Path, seed: int, max_images: int | None = None) -> tuple[Any, Any, Any]:
    """Return the training, validation and test images, as the pipeline `data` splits them."""
    from mnist_vae.params import SplitParams
    from mnist_vae.pipelines.data.nodes import ingest_images, split_images

    images, _ = ingest_images(read_archive(folder))
    train, validation, test = split_images(images, SplitParams(max_images=max_images), seed)
    return train, validation, test


def train_model(
    train_images: Any, validation_images: Any, seed: int, latent_dim: int, epochs: int, small: bool
) -> Any:
    """Return the `TrainedModel` of these images by the default recipe, but for what is given."""
    from mnist_vae import recipe
    from mnist_vae.params import ModelParams, TrainingParams

    model = ModelParams(latent_dim=latent_dim, hidden_units=(16,) if small else (512, 256))
    training = TrainingParams(epochs=1 if small else epochs, jit_compile=not small)
    return recipe.train(
        recipe.new_encoder(model, seed),
        recipe.new_decoder(model, seed),
        train_images,
        validation_images,
        {"source": "folder", "statement": "Data: those of a benchmark."},
        model,
        training,
        seed,
        None,
    )


@dataclass(frozen=True)
class Run:
    """One `kedro run` of a benchmark.

    Attributes:
        setting: What it changes, for people.
        seed: Its seed.
        folder: Where its `data` go.
        options: Of `kedro run`.
    """

    setting: str
    seed: int
    folder: Path
    options: dict[str, Any]


def planned_runs(
    project: Path,
    settings: Sequence[dict[str, Any]],
    seeds: Sequence[int],
    env: str = "local",
    pipelines: Sequence[str] = ("training",),
    **common: Any,
) -> list[Run]:
    """Return the runs of these settings, each with each seed.

    Args:
        project: A copy of the project.
        settings: Parameters by their whole names.
        seeds: Those of each setting, which the runs are in the order of.
        env: Kedro's environment.
        pipelines: Those of each run.
        common: Parameters of all runs, by their whole names.
    """
    runs = []
    for setting, seed in itertools.product(settings, seeds):
        options = {"env": env, "pipelines": ",".join(pipelines)}
        params = {**common, **setting, "seed": seed}
        name = hashlib.sha256(json.dumps([options, params]).encode()).hexdigest()[:16]
        folder = project / "runs" / name
        nested = OmegaConf.create({"data_folder": str(folder / "data")})
        for key, value in params.items():
            OmegaConf.update(nested, key, value)
        options["params"] = OmegaConf.to_container(nested)
        runs.append(Run(str(setting or "default"), seed, folder, options))
    return runs


def run_all(project: Path, runs: Sequence[Run], at_a_time: int) -> None:
    """Run them, each on a core of its own if there are several at a time.

    Those that an earlier call has finished are not run again.

    Raises:
        RuntimeError: One failed.
    """
    free: queue.Queue[str] = queue.Queue()
    for core in itertools.islice(itertools.cycle(sorted(os.sched_getaffinity(0))), at_a_time):
        free.put(str(core))

    def run_one(run: Run) -> None:
        done = run.folder / "done"
        if done.exists():
            return
        (run.folder / "data").mkdir(parents=True, exist_ok=True)
        (project / "data/01_raw").mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (run.folder / "data/01_raw").symlink_to(project / "data/01_raw")
        config = run.folder / "run.json"
        config.write_text(json.dumps({"run": run.options}))
        core = free.get()
        prefix = ["taskset", "-c", core] if at_a_time > 1 else []
        finished = kedro(project, "run", f"--config={config}", timeout=24 * 3600, prefix=prefix)
        free.put(core)
        if finished.returncode != 0:
            raise RuntimeError(f"The run in {run.folder} failed: {finished.stderr[-1000:]}")
        done.touch()
        say(f"{run.setting}, seed {run.seed}: done")

    with ThreadPoolExecutor(at_a_time) as pool:
        for _ in pool.map(run_one, runs):
            pass


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def watched_vae(callback: Any) -> Any:
    """Return the class of the training model, with one callback more when it is trained."""
    from mnist_vae.vae.model import VariationalAutoencoder

    class Watched(VariationalAutoencoder):
        def fit(self, *args: Any, callbacks: list[Any], **kwargs: Any) -> Any:
            return super().fit(*args, callbacks=[*callbacks, callback], **kwargs)

    return Watched


def keras_clock(n_images: int, turn: Callable[[float], None]) -> Any:
    """Return a callback, the last of all, that times the steps of each epoch.

    Args:
        n_images: Images of an epoch.
        turn: What is told of the images a second before the next epoch, and may wait.
    """
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


def trained_models(data: Path) -> tuple[Any, Any]:
    """Return encoder and decoder of the data folder of a project that was trained once."""
    from mnist_vae.vae.networks import load_model

    models = data / "06_models"
    encoder, decoder = (load_model(models / f"{name}.keras") for name in ("encoder", "decoder"))
    return encoder, decoder


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean of a figure over the seeds, its standard error, and the values themselves."""
    several = len(values) > 1
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if several else None
    return {"mean": float(np.mean(values)), "standard_error": error, "seeds": list(values)}


def median(values: Sequence[float]) -> float:
    """Return the median of `values`."""
    return float(np.median(values))


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the lower and the upper quartile of `values`."""
    lower, upper = np.quantile(values, (0.25, 0.75))
    return float(lower), float(upper)


def say(text: str) -> None:
    """Tell the user, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def report(result: dict[str, Any]) -> None:
    """Print the result, the one line on stdout."""
    sys.stdout.write(json.dumps(result, allow_nan=False) + "\n")
    sys.stdout.flush()
