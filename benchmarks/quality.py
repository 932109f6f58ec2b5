"""How good the model becomes, and how good it is at what it is used for, over several seeds.

    python benchmarks/quality.py FOLDER [--small] [--latent-dims 2 20] [--seeds 42 43 44]
        [--environment NAME] [--set KEY=VALUE ...]

For each number of latent dimensions and each seed: `kedro run --pipelines
training,evaluation,denoising` on the IDX files in FOLDER, in a project of its own, with a thorough
evaluation. `--environment` names the recipe (`best`, `fast`, `refined`), `--set` other parameters.
One JSON line has for each number of dimensions, of the test images: every figure of `metrics.json`
(nats an image), `gap` (test less training −ELBO), `validation` (−ELBO by which recipes are
chosen), the accuracy of the labels from z, the PSNR of denoised images (dB), and the seconds of
training; each as the mean over the seeds, its standard error, and the value of each seed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from common import copy_project, kedro_run, over_seeds, parser, report, say

PIPELINES = ("training", "evaluation", "denoising")
USED = {"evaluation__thorough": True, "denoising__max_images": 2000}
SMALL = {
    "training__epochs": 1,
    "training__jit_compile": False,
    "split__max_images": 1000,
    "model__hidden_units": "[16]",
    "evaluation__likelihood_images": 50,
    "evaluation__importance_samples": 5,
    "denoising__max_images": 20,
}


def numbers(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of a nested mapping by their whole names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{path}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{path}{name}", float(value)


def figures_of(data: Path) -> dict[str, float]:
    """Return the figures of the model in a data folder by name."""
    metrics = json.loads((data / "08_reporting/metrics.json").read_text())
    summary = json.loads((data / "06_models/training_summary.json").read_text())
    splits = metrics["splits"]
    psnr = pd.read_parquet(data / "08_reporting/denoising_scores.parquet")
    return {
        **dict(numbers(splits["test"])),
        **dict(numbers(metrics["label_accuracy"] or {}, "label_accuracy.")),
        "gap": splits["test"]["negative_elbo"] - splits["train"]["negative_elbo"],
        "validation": splits["validation"]["negative_elbo"],
        "training_seconds": summary["duration_seconds"],
        **{
            f"psnr.{row.kind}.{row.level:g}.{row.method}": float(row.psnr)
            for row in psnr.itertuples()
        },
    }


def main() -> None:
    """Run the benchmark."""
    command_line = parser(__doc__)
    command_line.add_argument("--latent-dims", type=int, nargs="+", default=[2, 20])
    command_line.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    command_line.add_argument("--environment", default="local", help="in which the runs are")
    command_line.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    arguments = command_line.parse_args()
    few = 1 if arguments.small else None
    given = dict(text.replace(".", "__").split("=") for text in arguments.set)
    common = {"source__folder": arguments.folder.resolve(), **USED, **given}
    results = {}
    for latent_dim in arguments.latent_dims[:few]:
        found = []
        for seed in arguments.seeds[:few]:
            params = {**common, "model__latent_dim": latent_dim, "seed": seed}
            with tempfile.TemporaryDirectory() as folder:
                project = copy_project(Path(folder))
                params |= SMALL if arguments.small else {}
                kedro_run(project, PIPELINES, arguments.environment, **params)
                found.append(figures_of(project / "data"))
            say(f"latent_dim {latent_dim}, seed {seed}: {found[-1]['negative_elbo']:.2f} nats")
        results[str(latent_dim)] = {
            name: over_seeds([figures[name] for figures in found]) for name in found[0]
        }
    report("quality", {"environment": arguments.environment, "latent_dim": results})


if __name__ == "__main__":
    main()
