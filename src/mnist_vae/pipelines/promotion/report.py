"""The pages that the report on a candidate has in addition: the decision."""

from __future__ import annotations

from typing import Any

from mnist_vae.data.images import ImageSet
from mnist_vae.data.origin import measure
from mnist_vae.jobs.records import Decision, Drift, Intake, Outcome, Plan
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import ReportingParams
from mnist_vae.report.blocks import Block, Gallery, Page, Picture, Section, Table, Text
from mnist_vae.report.model import (
    ModelFiles,
    facts,
    model_sections,
    sample_warning,
    statement,
)

_SPLITS = ("train", "validation", "test")
_SCALE = 0.6
_TITLES = {
    "generated_sheet.png": "Generated images",
    "reconstruction_sheet.png": "Reconstructions",
    "latent_manifold.png": "Latent manifold",
    "interpolations.png": "Interpolations",
}


def candidate_page(
    decision: Decision,
    plan: Plan,
    intake: Intake,
    candidate: Release,
    champion: Release | None,
    judge_images: ImageSet,
    params: ReportingParams,
    seed: int,
) -> Page:
    """Return the report on a candidate: the decision, then what every model's report has."""
    promoted = decision.outcome is Outcome.PROMOTED
    became = "is in service" if promoted else "was not put in service"
    files = _files_of(candidate, judge_images)
    compared = champion if decision.champion is not None else None
    own = [_decision(decision, files, compared), _comparison(candidate, compared), _batches(intake)]
    return Page(
        heading=f"Candidate {decision.model_version} {became}",
        tone="good" if promoted else "bad",
        statement=statement(files),
        warning=sample_warning(files.training_summary),
        lead=(
            f"{decision.reason[0].upper()}{decision.reason[1:]}. The release before: "
            f"{decision.previous or 'none'}. A candidate was trained as {plan.reason}.",
        ),
        facts=facts(files),
        sections=(
            *(section for section in own if section is not None),
            *model_sections(files, params, seed),
        ),
    )


def _files_of(candidate: Release, judge_images: ImageSet) -> ModelFiles:
    splits = [candidate.images(f"{split}_images.parquet") for split in _SPLITS]
    return ModelFiles(
        training_summary=candidate.load("training_summary.json"),
        metrics=candidate.load("metrics.json"),
        latent_embeddings=candidate.load("latent_embeddings.parquet"),
        decoder=candidate.load("decoder.keras"),
        images=[*splits, judge_images],
        training_history=candidate.load("training_history.parquet"),
        run_manifest=candidate.load("run_manifest.json"),
        generated_images=candidate.images("generated_images.parquet"),
        latent_manifold=candidate.load("latent_manifold.png"),
        interpolations=candidate.load("interpolations.png"),
    )


def in_words(gain: float) -> str:
    """Return a gain as what it is, also where it is none: better, or worse."""
    if round(gain, 3) == 0:
        return "neither better nor worse by 0.001"
    return f"{'better' if gain > 0 else 'worse'} by {abs(gain):.3f}"


def _decision(decision: Decision, files: ModelFiles, champion: Release | None) -> Section:
    blocks: list[Block] = []
    loss = measure(files.training_summary["reconstruction"])
    if decision.gain is not None and decision.gain_interval is not None:
        low, high = (_signed(end) for end in decision.gain_interval)
        unit = f" {loss.unit}" if loss.unit else ""
        said = (
            f"On the same {decision.judge_images:,} images, which neither model was trained on, "
            f"with the same noise, the candidate is {in_words(decision.gain)}{unit} an image than "
            f"the model in service (95 % interval of the gain {low} to {high}"
        )
        if len(decision.gains) > 1:
            said += f"; by seed {', '.join(map(_signed, decision.gains))}"
        blocks.append(Text(text=f"{said})."))
    checks = tuple(
        (check.what, check.received, check.expected, "yes" if check.passed else "NO")
        for check in decision.checks
    )
    blocks.append(
        Table(
            caption="What the candidate had to do",
            columns=("check", "received", "expected", "passed"),
            rows=checks,
        )
    )
    blocks.append(_figures(decision, files, champion, loss.words))
    if loss.note:
        blocks.append(Text(text=loss.note, note=True))
    blocks.append(
        Text(text=f"Fingerprint of code, parameters and data: {decision.fingerprint}.", note=True)
    )
    return Section(key="decision", title="The decision", blocks=tuple(blocks))


def _figures(decision: Decision, files: ModelFiles, champion: Release | None, loss: str) -> Table:
    """Return the table of figures: a name, and a value for each model."""
    models = [decision.candidate] + ([decision.champion] if decision.champion else [])

    def row(name: str, form: str, of: str) -> tuple[str, ...]:
        values = [getattr(model, of) for model in models]
        return name, *("" if value is None else form.format(value) for value in values)

    tests = [files.metrics]
    if champion is not None:
        tests.append(champion.load("metrics.json"))
    return Table(
        caption="Candidate and champion",
        columns=("figure", "candidate", "champion")[: 1 + len(models)],
        rows=(
            row(f"{loss} an image, judge's images", "{:.2f}", "negative_elbo"),
            row("label accuracy of z, judge's images", "{:.3f}", "accuracy"),
            row("active latent dimensions", "{:.0f}", "active_units"),
            (f"{loss} an image, test images (reported only)", *map(_test_loss, tests)),
        ),
    )


def _test_loss(metrics: dict[str, Any]) -> str:
    return f"{metrics['splits']['test']['negative_elbo']:.2f}"


def _comparison(candidate: Release, champion: Release | None) -> Section | None:
    """Return the pictures of both models side by side, of each kind."""
    if champion is None:
        return None
    galleries = []
    for name, title in _TITLES.items():
        pair = tuple(
            Picture.of(release.load(name), which, f"{title} of the {which}", _SCALE)
            for which, release in (("candidate", candidate), ("champion", champion))
        )
        galleries.append(Gallery(caption=title, pictures=pair, wide=True))
    title = "Candidate and champion, side by side"
    text = Text(text=f"At the left the candidate, at the right the champion, {champion.name}.")
    return Section(key="comparison", title=title, blocks=(text, *galleries))


def _batches(intake: Intake) -> Section:
    rows = tuple(
        (
            name,
            record.outcome,
            "" if record.images is None else f"{record.images:,}",
            _describe(record.drift),
            "; ".join(record.reasons),
        )
        for name, record in intake.batches.items()
    )
    block: Block = Text(text="No new batch.")
    if rows:
        columns = ("batch", "outcome", "images", "drift", "reasons")
        block = Table(caption="What became of them", columns=columns, rows=rows)
    return Section(key="batches", title="Batches of this run", blocks=(block,))


def _describe(drift: Drift | None) -> str:
    if drift is None:
        return ""
    return f"{'drifted' if drift.drifted else 'none'}, distance {drift}"


def _signed(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")
