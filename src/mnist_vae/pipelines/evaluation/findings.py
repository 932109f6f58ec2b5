"""What the evaluation has to say in the report on a model."""

from __future__ import annotations

from typing import Any

import pandas as pd
from PIL import Image

from mnist_vae.contracts import check_versions
from mnist_vae.origin import Measure, measure
from mnist_vae.report.blocks import Block, Chart, Findings, Picture, Section, Table, Text
from mnist_vae.report.pictures import SHEET_SCALE
from mnist_vae.report.worth import with_error, worth_section

_GAPS = {
    "amortisation": ("amortisation: q is the encoder's", "#d55e00"),
    "approximation": ("approximation: q is a Gaussian", "#2a86c8"),
}


def describe_evaluation(
    evaluation_table: pd.DataFrame,
    metrics: dict[str, Any],
    sample_quality: dict[str, Any],
    sampler_sheet: Image.Image,
    training_summary: dict[str, Any],
) -> Findings:
    """Return the sections of the report: what the model is worth, where its loss is, its samplers.

    Raises:
        ValueError: Table, metrics or sample quality are of another model.
    """
    found = {*evaluation_table["model_version"], metrics["model_version"]}
    check_versions(
        "The figures are not of the model in use",
        sorted({*found, sample_quality["model_version"]}),
        training_summary,
        "run `kedro run --pipelines evaluation` as a whole",
    )
    rows = evaluation_table.to_dict("records")
    sections = [worth_section(rows, metrics, complete=True)]
    if metrics["skipped"] is None:
        sections.append(_loss(metrics))
    sections.append(_samplers(sample_quality, sampler_sheet))
    return Findings.of(training_summary, *sections)


def _loss(metrics: dict[str, Any]) -> Section:
    """Return the parts of the loss on each split (`decomposition.decompose`)."""
    loss = measure(metrics["reconstruction_term"])
    parts = {name: split["decomposition"] for name, split in metrics["splits"].items()}
    names = list(parts)
    bars = tuple(
        {
            "type": "bar",
            "orientation": "h",
            "y": names,
            "x": [round(of[part], 4) for of in parts.values()],
            "name": words,
            "marker": {"color": colour},
            "hovertemplate": f"%{{y}}: %{{x:.2f}} nats<extra>{words}</extra>",
        }
        for part, (words, colour) in _GAPS.items()
    )
    layout = {
        "barmode": "stack",
        "xaxis": {"title": {"text": "nats an image above −log p(x)"}},
        "yaxis": {"autorange": "reversed"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    }
    of_test = parts["test"]
    said = (
        f"{loss.name} = −log p(x) + approximation + amortisation. −log p(x) is what the decoder "
        f"leaves; the likelihood is {of_test['likelihood']}. The approximation is lost as q of an "
        "image is a Gaussian, the amortisation as it is the encoder's and not the best one."
    )
    where = (
        f"{of_test['misplaced']:.1%} of the test images have their best mean of z more than half a "
        "unit from the encoder's."
    )
    if of_test["worst_tenth"] is not None:
        tenth = f"{of_test['worst_tenth']:.0%}"
        where = f"A tenth of the test images holds {tenth} of the amortisation. {where}"
    return Section(
        key="loss",
        title="Where the loss is",
        blocks=(
            Text(text=said),
            Text(text=where),
            Chart(
                caption="What is lost beside the likelihood, nats an image",
                data=bars,
                layout=layout,
                height=260,
                table=_parts_table(parts, loss),
            ),
        ),
    )


def _parts_table(parts: dict[str, dict[str, Any]], loss: Measure) -> Table:
    columns = {
        "negative_elbo": loss.name,
        "amortisation": "amortisation",
        "refined_negative_elbo": f"{loss.name}, refined q",
        "approximation": "approximation",
        "negative_log_likelihood": "−log p(x)",
    }
    rows = [
        (split, *(with_error(of[name], of[f"{name}_standard_error"]) for name in columns))
        for split, of in parts.items()
    ]
    return Table(
        caption="The parts of the loss, nats an image, ± the standard error"
        if loss.unit
        else "The parts of the loss of an image, ± the standard error",
        columns=("split", *columns.values()),
        rows=tuple(rows),
    )


def _samplers(quality: dict[str, Any], sheet: Image.Image) -> Section:
    blocks: list[Block] = [
        Picture.of(
            sheet,
            "Samples of each sampler",
            "Rows of images, a sampler after the other, below real ones.",
            scale=SHEET_SCALE,
        )
    ]
    if quality["sets"] is None:
        blocks.append(Text(text=quality["skipped"], note=True))
    else:
        rows = [
            (
                one["set"],
                with_error(one["fid"], one["fid_standard_error"]),
                with_error(one["kid"], one["kid_standard_error"]),
                f"{one['precision']:.3f}",
                f"{one['recall']:.3f}",
            )
            for one in quality["sets"]
        ]
        blocks += [
            Text(text=quality["verdict"]),
            Table(
                caption="How near each set is to the test images",
                columns=("set", "FID, own features", "KID, own features", "precision", "recall"),
                rows=tuple(rows),
            ),
            Text(text=quality["not_inception"], note=True),
        ]
    return Section(key="samplers", title="Samples of each sampler", blocks=tuple(blocks))
