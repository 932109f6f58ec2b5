"""How good the model becomes: −ELBO on the test images, with the default recipe.

    python benchmarks/quality.py FOLDER [--small]

Every run is `kedro run --pipelines training` on the IDX files in FOLDER, in a project of its own.
For `latent_dim` 2, 10 and 20, and three seeds each, it takes from `metrics.json` and the training
summary: −ELBO of the test images and its two terms (nats an image); `gap`, test less training
images, both as they are; `gap_to_training_loss`, test less the loss that training reported for
the epoch of the weights, whose encoder saw resampled images; active units; how long the training
took; `validation`, −ELBO of the validation images, by which recipes are chosen; and of validation
and test images −ELBO with refined q (`refined_validation`, `refined`: 15 steps, four draws).
One JSON line has the mean over the seeds, and the values of each. `--environment` names the
recipe: `best`, `fast` or `refined`; without it they are of the default one.
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
from common import copy_project, kedro, parser, report, say, trained_models

REFINE_STEPS, DRAWS = 15, 4


def train_all(
    folder: Path, runs: list[dict[str, Any]], one_core_each: bool, environment: str = "local"
) -> list[dict[str, Any]]:
    """Train with each of these sets of parameters, and return the figures of each model."""
    if not one_core_each:
        return [train(folder, params, environment) for params in runs]
    cores: queue.Queue[int] = queue.Queue()
    for core in os.sched_getaffinity(0):
        cores.put(core)

    def train_on_a_core(params: dict[str, Any]) -> dict[str, Any]:
        core = cores.get()
        try:
            return train(folder, params, environment, ["taskset", "-c", str(core)])
        finally:
            cores.put(core)

    with ThreadPoolExecutor(cores.qsize()) as pool:
        return list(pool.map(train_on_a_core, runs))


def train(
    folder: Path, params: dict[str, Any], environment: str = "local", prefix: Sequence[str] = ()
) -> dict[str, Any]:
    """Run the pipeline `training` with these parameters and return the figures of its model."""
    params = {"source.folder": folder.resolve(), **params}
    text = ",".join(f"{key}={value}" for key, value in params.items())
    with tempfile.TemporaryDirectory() as temporary:
        project = copy_project(Path(temporary))
        run = kedro(
            project,
            "run",
            "--pipelines=training",
            f"--env={environment}",
            f"--params={text}",
            timeout=7200,
            prefix=prefix,
        )
        if run.returncode != 0:
            raise RuntimeError(
                f"kedro run --params {text} ended with {run.returncode}: {run.stderr}"
            )
        splits = json.loads((project / "data/08_reporting/metrics.json").read_text())["splits"]
        (summary,) = (project / "data/06_models/training_summary.json").glob("*/*.json")
        training = json.loads(summary.read_text())
        history = pq.read_table(project / "data/06_models/training_history.parquet").to_pydict()
        refined = refined_losses(project)
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
        "validation": splits["validation"]["negative_elbo"],
        "refined_validation": refined["validation"],
        "refined": refined["test"],
    }
    say(
        f"{environment}: {text}: "
        + ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
    )
    return figures


def refined_losses(project: Path) -> dict[str, float]:
    """Return −ELBO of validation and test images of a trained project, with refined q."""
    from mnist_vae.datasets.images import ImagesDataset
    from mnist_vae.vae.inference import Refiner, encode, negative_elbo

    encoder, decoder = trained_models(project)
    refiner, losses = Refiner(decoder, steps=REFINE_STEPS, seed=0), {}
    for split in ("validation", "test"):
        table = project / f"data/05_model_input/{split}_images.parquet"
        pixels = ImagesDataset(filepath=str(table)).load().model_input()
        refined = refiner(pixels, encode(encoder, pixels))
        how: dict[str, Any] = {"reconstruction": "binary_crossentropy", "draws": DRAWS, "seed": 0}
        losses[split] = float(negative_elbo(decoder, pixels, refined, **how).mean())
    return losses


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
    command_line.add_argument("--environment", default="local", help="in which the runs are")
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
    figures = iter(
        train_all(arguments.folder, jobs, arguments.one_core_each, arguments.environment)
    )
    results = {}
    for latent_dim in latent_dims:
        runs = [next(figures) for _ in seeds]
        results[str(latent_dim)] = {
            "mean": mean(runs),
            "of_seeds": {
                name: [round(run[name], 3) for run in runs]
                for name in ("negative_elbo", "validation", "refined", "refined_validation")
            },
        }
    report({"benchmark": "quality", "seeds": seeds, "latent_dim": results})


if __name__ == "__main__":
    main()
