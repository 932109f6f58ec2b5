"""How good the model becomes: −ELBO on the test images, with the default recipe.

    python benchmarks/quality.py FOLDER [--small]

Every run is `kedro run --pipelines training` on the IDX files in FOLDER.
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
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from common import (
    Run,
    copy_project,
    cores,
    parser,
    planned_runs,
    report,
    run_all,
    say,
    trained_models,
)

REFINE_STEPS, DRAWS = 15, 4


def train_all(
    folder: Path,
    settings: Sequence[dict[str, Any]],
    seeds: Sequence[int],
    one_core_each: bool,
    environment: str = "local",
    **common: Any,
) -> list[list[dict[str, Any]]]:
    """Train with each of these sets of parameters and seeds.

    Args:
        folder: Of the IDX files.
        settings: Parameters by their whole names.
        seeds: Those of each setting.
        one_core_each: Whether as many runs are under way as there are cores.
        environment: Kedro's.
        common: Parameters of all runs.

    Returns:
        The figures of each model: of each setting those of its seeds.
    """
    common = {"source.folder": str(folder.resolve()), **common}
    with tempfile.TemporaryDirectory() as temporary:
        project = copy_project(Path(temporary) / "project")
        planned = planned_runs(project, settings, seeds, environment, **common)
        run_all(project, planned, cores() if one_core_each else 1)
        runs = [figures_of(run, environment) for run in planned]
    return [runs[start : start + len(seeds)] for start in range(0, len(runs), len(seeds))]


def figures_of(run: Run, environment: str) -> dict[str, Any]:
    """Return the figures of the model of one run."""
    data = run.folder / "data"
    splits = json.loads((data / "08_reporting/metrics.json").read_text())["splits"]
    training = json.loads((data / "06_models/training_summary.json").read_text())
    history = pq.read_table(data / "06_models/training_history.parquet").to_pydict()
    refined = refined_losses(data)
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
        f"{environment}: {run.setting}, seed {run.seed}: "
        + ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
    )
    return figures


def refined_losses(data: Path) -> dict[str, float]:
    """Return −ELBO of validation and test images in a data folder, with refined q."""
    from mnist_vae.data.image_table import ImagesDataset
    from mnist_vae.vae.elbo import encode, negative_elbo
    from mnist_vae.vae.inference import Refiner

    encoder, decoder = trained_models(data)
    refiner, losses = Refiner(decoder, steps=REFINE_STEPS, seed=0), {}
    for split in ("validation", "test"):
        table = data / f"05_model_input/{split}_images.parquet"
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
    runs_of = train_all(
        arguments.folder,
        [{"model.latent_dim": latent_dim} for latent_dim in latent_dims],
        seeds,
        arguments.one_core_each,
        arguments.environment,
        **small,
    )
    results = {}
    for latent_dim, runs in zip(latent_dims, runs_of, strict=True):
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
