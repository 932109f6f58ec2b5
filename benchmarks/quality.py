"""How good the model becomes: −ELBO on the test images, with the default recipe.

    python benchmarks/quality.py FOLDER [--small]

Every run is `kedro run --pipelines training` on the IDX files in FOLDER, in a project of its own.
For `latent_dim` 2, 10 and 20, and three seeds each, it takes from `metrics.json` and the training
summary: −ELBO of the test images and its two terms (nats an image); `gap`, test less training
images, both as they are; `gap_to_training_loss`, test less the loss that training reported for
the epoch of the weights, whose encoder saw resampled images; active units; and how long the
training took. One JSON line has the mean over the seeds, and the values of each.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from common import copy_project, kedro, parser, report, say


def train_all(
    folder: Path, runs: list[dict[str, Any]], one_core_each: bool
) -> list[dict[str, Any]]:
    """Train with each of these sets of parameters, and return the figures of each model."""
    if not one_core_each:
        return [train(folder, params) for params in runs]
    cores: queue.Queue[int] = queue.Queue()
    for core in os.sched_getaffinity(0):
        cores.put(core)

    def train_on_a_core(params: dict[str, Any]) -> dict[str, Any]:
        core = cores.get()
        try:
            return train(folder, params, ["taskset", "-c", str(core)])
        finally:
            cores.put(core)

    with ThreadPoolExecutor(cores.qsize()) as pool:
        return list(pool.map(train_on_a_core, runs))


def train(folder: Path, params: dict[str, Any], prefix: Sequence[str] = ()) -> dict[str, Any]:
    """Run the pipeline `training` with these parameters and return the figures of its model."""
    params = {"source.folder": folder.resolve(), **params}
    text = ",".join(f"{key}={value}" for key, value in params.items())
    with tempfile.TemporaryDirectory() as temporary:
        project = copy_project(Path(temporary))
        run = kedro(
            project, "run", "--pipelines=training", "--params", text, timeout=7200, prefix=prefix
        )
        if run.returncode != 0:
            raise RuntimeError(
                f"kedro run --params {text} ended with {run.returncode}: {run.stderr}"
            )
        splits = json.loads((project / "data/08_reporting/metrics.json").read_text())["splits"]
        (summary,) = (project / "data/06_models/training_summary.json").glob("*/*.json")
        training = json.loads(summary.read_text())
        history = pq.read_table(project / "data/06_models/training_history.parquet").to_pydict()
    test = splits["test"]
    figures = {
        "negative_elbo": test["negative_elbo"],
        "reconstruction": test["reconstruction"],
        "kl": test["kl"],
        "gap": test["negative_elbo"] - splits["train"]["negative_elbo"],
        "gap_to_training_loss": test["negative_elbo"]
        - history["loss"][training["epoch_of_weights"] - 1],
        "active_units": test["active_units"],
        "epochs": training["epochs"],
        "training_seconds": training["duration_seconds"],
    }
    say(f"{text}: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    return figures


def one_core_each(command_line: argparse.ArgumentParser) -> None:
    """Add the option of that name."""
    command_line.add_argument(
        "--one-core-each",
        action="store_true",
        help="as many runs at a time as there are cores: sooner done, but each takes longer",
    )


def mean(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Return the mean of every figure over the runs."""
    return {name: round(statistics.fmean(run[name] for run in runs), 3) for name in runs[0]}


def main() -> None:
    """Run the benchmark."""
    command_line = parser(__doc__)
    command_line.add_argument("--latent-dims", type=int, nargs="+", default=[2, 10, 20])
    command_line.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    one_core_each(command_line)
    arguments = command_line.parse_args()
    small = {"training.epochs": 1, "split.max_images": 1000} if arguments.small else {}
    seeds = arguments.seeds[:1] if arguments.small else arguments.seeds
    latent_dims = arguments.latent_dims[:1] if arguments.small else arguments.latent_dims
    jobs = [
        {"model.latent_dim": latent_dim, "seed": seed, **small}
        for latent_dim in latent_dims
        for seed in seeds
    ]
    figures = iter(train_all(arguments.folder, jobs, arguments.one_core_each))
    results = {}
    for latent_dim in latent_dims:
        runs = [next(figures) for _ in seeds]
        results[str(latent_dim)] = {
            "mean": mean(runs),
            "negative_elbo_of_seeds": [round(run["negative_elbo"], 3) for run in runs],
        }
    report({"benchmark": "quality", "seeds": seeds, "latent_dim": results})


if __name__ == "__main__":
    main()
