"""What each part of the default recipe is worth: one parameter at a time, set otherwise.

    python benchmarks/ablation.py FOLDER [--small] [--table FILE]

Every variant is trained with three seeds on the IDX files in FOLDER, for fewer epochs than the
default so that the whole takes half an hour; it differs from the default in the parameters that
name it, and in no other. The figures are those of `quality.py`. One JSON line; `--table` writes
them as the Markdown table of the README too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import parser, report
from quality import mean, one_core_each, train_all

VARIANTS: list[dict[str, Any]] = [
    {},
    {"model.decoder_initialization": "glorot"},
    {"training.resample_input": False},
    {"training.beta_2": 0.999},
    {"training.learning_rate_schedule": "constant"},
    {"training.kl_weight": 4.0},
    {"training.free_bits": 4.0},
    {"training.importance_samples": 5},
]


def name_of(variant: dict[str, Any]) -> str:
    """Return the variant as a user would write it, without the parameters' groups."""
    words = [f"{key.split('.')[-1]}={value}" for key, value in variant.items()]
    return ", ".join(words).replace("False", "false") or "default"


def main() -> None:
    """Run the benchmark."""
    command_line = parser(__doc__)
    command_line.add_argument("--latent-dim", type=int, default=2)
    command_line.add_argument("--epochs", type=int, default=12)
    command_line.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    one_core_each(command_line)
    command_line.add_argument("--table", type=Path, help="write the Markdown table here")
    arguments = command_line.parse_args()
    common = {"model.latent_dim": arguments.latent_dim, "training.epochs": arguments.epochs}
    variants, seeds = VARIANTS, arguments.seeds
    if arguments.small:
        common |= {"training.epochs": 1, "split.max_images": 1000}
        variants, seeds = [VARIANTS[0], VARIANTS[-1]], seeds[:1]

    jobs = [{**common, "seed": seed, **variant} for variant in variants for seed in seeds]
    runs = train_all(arguments.folder, jobs, arguments.one_core_each)
    means = {
        name_of(variant): mean(runs[start : start + len(seeds)])
        for variant, start in zip(variants, range(0, len(runs), len(seeds)), strict=True)
    }
    if arguments.table:
        arguments.table.write_text(table(means))
    report(
        {
            "benchmark": "ablation",
            "latent_dim": arguments.latent_dim,
            "epochs": common["training.epochs"],
            "seeds": seeds,
            "variants": means,
        }
    )


def table(means: dict[str, dict[str, float]]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| Recipe | Test −ELBO | Reconstruction | KL | Test − train |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {run['negative_elbo']:.2f} | {run['reconstruction']:.2f} | {run['kl']:.2f} "
        f"| {run['gap']:.2f} |"
        for name, run in means.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
