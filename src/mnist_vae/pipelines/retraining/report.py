"""The report on a candidate: the decision, then what the report on every model has."""

from __future__ import annotations

from mnist_vae.data.images import ImageSet
from mnist_vae.data.origin import Measure, measure
from mnist_vae.jobs.records import Decision, Figures, Intake, Outcome, Plan
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import ReportingParams
from mnist_vae.report.model import ModelFiles, model_page
from mnist_vae.report.page import Block, Gallery, Picture, Section, Table, Text, render

Side = tuple[str, Release, Figures]  # a model by its name in the comparison

_SPLITS = ("train", "validation", "test")
_SCALE = 0.6
_TITLES = {
    "generated_sheet.png": "Generated images",
    "reconstruction_sheet.png": "Reconstructions",
    "latent_manifold.png": "Latent manifold",
    "interpolations.png": "Interpolations",
}


def write_report(
    decision: Decision,
    plan: Plan,
    intake: Intake,
    candidate: Release,
    champion: Release | None,
    judge_images: ImageSet,
    params: ReportingParams,
    seed: int,
) -> str:
    """Return one HTML page: the decision, why, old and new side by side, and the model's report."""
    files = ModelFiles(
        training_summary=candidate.load("training_summary.json"),
        metrics=candidate.load("metrics.json"),
        latent_embeddings=candidate.load("latent_embeddings.parquet"),
        decoder=candidate.load("decoder.keras"),
        images=[*(candidate.load(f"{split}_images.parquet") for split in _SPLITS), judge_images],
        training_history=candidate.load("training_history.parquet"),
        run_manifest=candidate.load("run_manifest.json"),
        generated_images=candidate.load("generated_images.parquet"),
        latent_manifold=candidate.load("latent_manifold.png"),
        interpolations=candidate.load("interpolations.png"),
    )
    promoted = decision.outcome is Outcome.PROMOTED
    became = "is in service" if promoted else "was not put in service"
    sides = [("candidate", candidate, decision.candidate)]
    compared = []
    if champion is not None and decision.champion is not None:
        sides.append(("champion", champion, decision.champion))
        compared = [_comparison(candidate, champion)]
    page = model_page(files, params, seed)
    changes = {
        "heading": f"Candidate {decision.model_version} {became}",
        "tone": "good" if promoted else "bad",
        "lead": (
            f"{decision.reason[0].upper()}{decision.reason[1:]}. The release before: "
            f"{decision.previous or 'none'}. A candidate was trained as {plan.reason}.",
        ),
        "sections": (_decision(decision, sides), *compared, _batches(intake), *page.sections),
    }
    return render(page.model_copy(update=changes))


def _decision(decision: Decision, sides: list[Side]) -> Section:
    loss = measure(decision.reconstruction)
    blocks: list[Block] = []
    if decision.gain is not None and decision.gain_interval is not None:
        low, high = map(_signed, decision.gain_interval)
        by_seed = f"; by seed {', '.join(map(_signed, decision.gains))}"
        said = (
            f"On the same {decision.judge_images:,} images, which neither model was trained on, "
            f"with the same noise, the candidate gains {_signed(decision.gain)}{loss.unit and ' '}"
            f"{loss.unit} an image over the model in service (95 % interval {low} to {high}"
            f"{by_seed if len(decision.gains) > 1 else ''})."
        )
        blocks.append(Text(text=said))
    rows = tuple(
        (check.what, check.received, check.expected, "yes" if check.passed else "NO")
        for check in decision.checks
    )
    columns = ("check", "received", "expected", "passed")
    blocks.append(Table(caption="What the candidate had to do", columns=columns, rows=rows))
    blocks.append(_figures(sides, loss))
    if loss.note:
        blocks.append(Text(text=loss.note, note=True))
    return Section(key="decision", title="The decision", blocks=tuple(blocks))


def _figures(sides: list[Side], loss: Measure) -> Table:
    """Return the table of figures, a column a model."""
    names, releases, reached = zip(*sides, strict=True)
    tests = [release.load("metrics.json")["splits"]["test"] for release in releases]
    rows: dict[str, list[str]] = {
        f"{loss.words} an image, judge's images": [f"{one.negative_elbo:.2f}" for one in reached],
        "label accuracy of z, judge's images": [
            "" if one.accuracy is None else f"{one.accuracy:.3f}" for one in reached
        ],
        "active latent dimensions": [f"{one.active_units}" for one in reached],
        f"{loss.words} an image, test images (reported only)": [
            f"{test['negative_elbo']:.2f}" for test in tests
        ],
    }
    return Table(
        caption="Candidate and champion",
        columns=("figure", *names),
        rows=tuple((name, *values) for name, values in rows.items()),
    )


def _comparison(candidate: Release, champion: Release) -> Section:
    """Return the pictures of both models side by side, of each kind."""
    text = Text(text=f"At the left the candidate, at the right the champion, {champion.name}.")
    galleries = []
    for file, title in _TITLES.items():
        pair = tuple(
            Picture.of(release.load(file), which, f"{title} of the {which}", _SCALE)
            for which, release in (("candidate", candidate), ("champion", champion))
        )
        galleries.append(Gallery(caption=title, pictures=pair, wide=True))
    title = "Candidate and champion, side by side"
    return Section(key="comparison", title=title, blocks=(text, *galleries))


def _batches(intake: Intake) -> Section:
    rows = []
    for name, record in intake.batches.items():
        drift = ""
        if record.drift is not None:
            drift = f"{'drifted' if record.drift.drifted else 'none'}, distance {record.drift}"
        images = "" if record.images is None else f"{record.images:,}"
        rows.append((name, record.outcome, images, drift, "; ".join(record.reasons)))
    block: Block = Text(text="No new batch.")
    if rows:
        columns = ("batch", "outcome", "images", "drift", "reasons")
        block = Table(caption="What became of them", columns=columns, rows=tuple(rows))
    return Section(key="batches", title="Batches of this run", blocks=(block,))


def _signed(value: float) -> str:
    return f"{value:z.3f}".replace("-", "−")
