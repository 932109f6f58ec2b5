"""Recipes of training compared with the default one, on validation images.

    python benchmarks/ablation.py FOLDER [--small] [--variant NAME=VALUE[,...]]... [--table FILE]

Every variant is trained with three seeds on the IDX files in FOLDER, for fewer epochs than the
default unless `--epochs` says otherwise; it differs from the default in the parameters that name
it, and in no other. Without `--variant` each part of the default recipe is set otherwise, one at a
time. As many runs at a time as there are cores, each on a core of its own, with `--one-core-each`.

The figures are those of `quality.py`. The table has −ELBO of the validation images with the
encoder's q and with refined q, each less the default's with the standard error of that difference
over the seeds: what is less than twice that is no difference. One JSON line; `--table` writes the
table as Markdown.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from common import over_seeds, parser, report
from omegaconf import OmegaConf
from quality import mean, one_core_each, train_all

VARIANTS: list[dict[str, Any]] = [
    {},
    {"model.decoder_initialization": "glorot"},
    {"training.resample_input": False},
    {"training.beta_2": 0.999},
    {"training.learning_rate_schedule": "constant"},
    {"training.kl_weight": 4.0},
    {"training.refine_steps": 2},
]


def variant_of(text: str) -> dict[str, Any]:
    """Return the parameters of NAME=VALUE,NAME=VALUE, values as YAML has them."""
    pairs = [part.partition("=") for part in re.split(r",(?=[a-z_.0-9]+=)", text)]
    return {
        name: OmegaConf.to_container(OmegaConf.create(f"[{value}]"))[0] for name, _, value in pairs
    }


def name_of(variant: dict[str, Any]) -> str:
    """Return the variant as a user would write it, without the parameters' groups."""
    words = [f"{key.split('.')[-1]}={value}" for key, value in variant.items()]
    return ", ".join(words) or "default"


def main() -> None:
    """Run the benchmark."""
    command_line = parser(__doc__)
    command_line.add_argument("--latent-dim", type=int, default=2)
    command_line.add_argument("--epochs", type=int, default=12)
    command_line.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    command_line.add_argument("--variant", type=variant_of, action="append", metavar="NAME=VALUE")
    one_core_each(command_line)
    command_line.add_argument("--table", type=Path, help="write the Markdown table here")
    arguments = command_line.parse_args()
    common = {"model.latent_dim": arguments.latent_dim, "training.epochs": arguments.epochs}
    variants, seeds = VARIANTS, arguments.seeds
    if arguments.variant:
        variants = [{}, *arguments.variant]
    if arguments.small:
        common |= {"training.epochs": 1, "split.max_images": 1000}
        variants, seeds = [variants[0], variants[-1]], seeds[:1]

    runs_of = train_all(arguments.folder, variants, seeds, arguments.one_core_each, **common)
    of_variants = dict(zip(map(name_of, variants), runs_of, strict=True))
    if arguments.table:
        arguments.table.write_text(table(of_variants))
    report(
        {
            "benchmark": "ablation",
            "latent_dim": arguments.latent_dim,
            "epochs": common["training.epochs"],
            "seeds": seeds,
            "variants": {
                name: {
                    **mean(runs),
                    **{
                        f"{figure}_difference": difference(runs, of_variants["default"], figure)
                        for figure in ("validation", "refined_validation")
                    },
                }
                for name, runs in of_variants.items()
            },
        }
    )


def difference(
    runs: list[dict[str, Any]], default: list[dict[str, Any]], figure: str
) -> dict[str, Any]:
    """Return by how much a figure is above the default's, seed by seed, and the standard error."""
    values = [run[figure] - other[figure] for run, other in zip(runs, default, strict=True)]
    return over_seeds(values)


def table(of_variants: dict[str, list[dict[str, Any]]]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| Recipe | Validation −ELBO | less the default | refined | less the default "
        "| Test − train | Time |",
        "|---|---|---|---|---|---|---|",
    ]
    default = of_variants["default"]
    for name, runs in of_variants.items():
        means, cells = mean(runs), []
        for figure in ("validation", "refined_validation"):
            less = difference(runs, default, figure)
            error = "" if less["standard_error"] is None else f" ± {less['standard_error']:.2f}"
            cells += [f"{means[figure]:.2f}", f"{less['mean']:+.2f}{error}"]
        time = means["training_seconds"] / mean(default)["training_seconds"]
        lines.append(f"| {name} | {' | '.join(cells)} | {means['gap']:.2f} | {time:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
