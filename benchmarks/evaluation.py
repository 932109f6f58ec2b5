"""How good the model is at what it is used for: the targets, over several seeds.

    python benchmarks/evaluation.py FOLDER [--keep FOLDER] [--small]

For each seed it trains models of 2 (default recipe), 20 (60 epochs) and 16 (60 epochs) latent
dimensions on the IDX files in FOLDER, and runs `evaluation` of each, and `denoising` with that of
20 dimensions, thorough but for 16 dimensions. Samplers and
anomalies have scripts of their own. As many runs at a time as there are cores, each on a core of
its own; with `--keep` a second call resumes, and does not repeat the runs that are done. The JSON
line has for each figure its target, the mean over the seeds, its standard error and the figure of
each seed, all of the test images; the table goes to stderr.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from common import (
    copy_project,
    cores,
    over_seeds,
    parser,
    planned_runs,
    report,
    run_all,
    say,
)

MODELS: dict[str, dict[str, Any]] = {
    "2": {},
    "20": {"model.latent_dim": 20, "training.epochs": 60},
    "16": {"model.latent_dim": 16, "training.epochs": 60},
}
USES: dict[str, dict[str, dict[str, Any]]] = {  # pipelines and parameters, by latent dimensions
    "2": {"evaluation": {"evaluation.thorough": True}},
    "20": {
        "evaluation": {"evaluation.thorough": True, "evaluation.importance_samples": 100},
        "denoising": {"denoising.max_images": 2000},
    },
    "16": {"evaluation": {}},  # for its label accuracy
}
SMALL = {
    "training.epochs": 1,
    "training.jit_compile": False,
    "split.max_images": 1000,
    "model.hidden_units": [16],
}
SMALL_USE = {
    "evaluation": {"evaluation.likelihood_images": 100, "evaluation.importance_samples": 10},
    "denoising": {"denoising.max_images": 20},
}
TARGETS = {  # must, aim
    "error of the quadrature of −log p(x), latent 2, nats": ("< 0.01", ""),
    "refined −ELBO less exact −log p(x), latent 2, nats": ("0.6", "0.25"),
    "refined −ELBO, latent 20, nats": ("95.8", "95.3"),
    "15-NN accuracy of z_mean, latent 2": ("0.86", "0.88"),
    "15-NN accuracy of refined z_mean, latent 2": ("0.89", "0.91"),
    "15-NN accuracy of z_mean, latent 16": ("0.965", "0.98"),
    "PSNR, Gaussian noise of σ 0.5, refined, dB": ("17.5", "18.5"),
    "PSNR, salt and pepper 25 %, refined, dB": ("18", "19"),
}


def runs_of(
    folder: Path, images: Path, seeds: list[int], small: bool
) -> dict[tuple[str, int], Path]:
    """Train and use the models, and return where their reports are, by dimensions and seed.

    Args:
        folder: Where the project is; it may have runs that are done.
        images: The folder of the IDX files.
        seeds: Those of each model.
        small: Whether to show quickly that it works.
    """
    project = folder / "project"
    if not project.exists():
        copy_project(project)
    runs = []
    for dim, model in MODELS.items():
        setting = {**model, **(SMALL if small else {})}
        for pipeline, params in USES[dim].items():
            setting |= {**params, **(SMALL_USE[pipeline] if small else {})}
        pipelines = ["training", *USES[dim]]
        source = {"source.folder": str(images.resolve())}
        runs += planned_runs(project, [setting], seeds, pipelines=pipelines, **source)
    run_all(project, runs, cores())
    names = [(dim, seed) for dim in MODELS for seed in seeds]
    return {name: run.folder / "data/08_reporting" for name, run in zip(names, runs, strict=True)}


def figures_of(reports: dict[str, Path]) -> Iterator[tuple[str, float]]:
    """Yield the figures of a seed by name, of the test images: the targets, and others.

    Args:
        reports: Where the reports of the seed are, by latent dimensions.
    """
    yield from of_evaluation(reports)
    yield from of_denoising(reports["20"])


def of_evaluation(reports: dict[str, Path]) -> Iterator[tuple[str, float]]:
    """Yield likelihoods and label accuracies."""
    test = {dim: read(reports[dim], "metrics")["splits"]["test"] for dim in MODELS}
    two, twenty = (test[dim]["decomposition"] for dim in ("2", "20"))
    yield "−ELBO, latent 2, nats", test["2"]["negative_elbo"]
    yield "refined −ELBO, latent 2, nats", two["refined_negative_elbo"]
    yield "exact −log p(x), latent 2, nats", two["negative_log_likelihood"]
    yield "error of the quadrature of −log p(x), latent 2, nats", two["quadrature_error"]
    yield "refined −ELBO less exact −log p(x), latent 2, nats", two["approximation"]
    binarized = test["2"]["binarized"]["negative_log_likelihood"]
    yield "exact −log p(x), latent 2, binarised, nats", binarized
    yield "−ELBO, latent 20, nats", test["20"]["negative_elbo"]
    yield "refined −ELBO, latent 20, nats", twenty["refined_negative_elbo"]
    yield "importance-weighted bound, latent 20, nats", twenty["negative_log_likelihood"]
    binarized = test["20"]["binarized"]["negative_log_likelihood"]
    yield "importance-weighted bound, latent 20, binarised, nats", binarized
    for dim, folder in reports.items():
        accuracy = read(folder, "metrics")["label_accuracy"]
        for kind, words in (("amortised", "z_mean"), ("refined", "refined z_mean")):
            if accuracy[kind] is not None:  # it is where the evaluation is not thorough
                yield f"15-NN accuracy of {words}, latent {dim}", accuracy[kind]["value"]


def of_denoising(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield the PSNR of refined inference, and of what it is compared with."""
    psnr = pd.read_parquet(folder / "denoising_scores.parquet")
    psnr = psnr.set_index(["kind", "level", "method"])["psnr"]
    for kind, level, name in (
        ("gaussian", 0.5, "Gaussian noise of σ 0.5"),
        ("salt_and_pepper", 0.25, "salt and pepper 25 %"),
    ):
        for method in ("refined", "amortised", "median", "noisy"):
            yield f"PSNR, {name}, {method}, dB", psnr[kind, level, method]


def read(folder: Path, name: str) -> Any:
    """Return the content of a report."""
    return json.loads((folder / f"{name}.json").read_text())


def main() -> None:
    """Run the benchmark."""
    command_line = parser(__doc__)
    command_line.add_argument("--keep", type=Path, metavar="FOLDER", help="where the projects stay")
    command_line.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    arguments = command_line.parse_args()
    seeds = arguments.seeds[:1] if arguments.small else arguments.seeds
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        found = runs_of(folder, arguments.folder, seeds, arguments.small)
        by_seed = [dict(figures_of({dim: found[dim, seed] for dim in MODELS})) for seed in seeds]
    results = {}
    say("| figure | must | aim | mean | of the seeds |\n|---|---|---|---|---|")
    for name in by_seed[0]:
        values = [figures[name] for figures in by_seed]
        must, aim = TARGETS.get(name, ("", ""))
        results[name] = {"must": must, "aim": aim, **over_seeds(values)}
        shown = ", ".join(f"{value:.4g}" for value in values)
        say(f"| {name} | {must} | {aim} | {results[name]['mean']:.4g} | {shown} |")
    report({"benchmark": "evaluation", "seeds": seeds, "figures": results})


if __name__ == "__main__":
    main()
