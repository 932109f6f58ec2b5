"""The figures of a job: what its last line, its journal and the data folder tell.

Nothing here writes, and what is not there yet, such as a first model, is no error.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

from mnist_vae.jobs.batches import IncomingBatchesDataset
from mnist_vae.jobs.names import file_name, printable
from mnist_vae.jobs.records import BatchRecord, Intake, Outcome
from mnist_vae.jobs.release_files import number_of, read_release
from mnist_vae.monitoring.history import Line, read_history

HELP = {
    "mnist_vae_last_run_timestamp_seconds": "When the last run ended, since 1970.",
    "mnist_vae_last_success_timestamp_seconds": (
        "When the last run that succeeded ended, since 1970; 0 for never."
    ),
    "mnist_vae_last_run_outcome": "1 for the outcome of the last run, 0 for the others.",
    "mnist_vae_last_run_duration_seconds": "How long the last run took.",
    "mnist_vae_last_run_peak_memory_bytes": "The most memory that the last run had at a time.",
    "mnist_vae_last_run_batches": (
        "Batches by their outcome, in the last run that looked at batches."
    ),
    "mnist_vae_batches": "Batches that are waiting, in use, withdrawn or in quarantine.",
    "mnist_vae_drift_effect": (
        "Largest Kolmogorov-Smirnov distance of a batch that was looked at last, from 0 to 1; "
        "0 where there was none."
    ),
    "mnist_vae_drifted_batches": "Batches that have drifted, of those that were looked at last.",
    "mnist_vae_negative_elbo_nats": (
        "Negative ELBO an image of the champion and of the last candidate, "
        "on the judge's and on the test images."
    ),
    "mnist_vae_candidate_gain_nats": (
        "By how much the negative ELBO of the last candidate was lower than that of the champion, "
        "in nats an image (of squared errors with the term mse)."
    ),
    "mnist_vae_candidates_kept_in_a_row": (
        "Candidates that were not better, since the last promotion or rollback."
    ),
    "mnist_vae_release_number": "Number of the release in service; 0 where there is none.",
    "mnist_vae_release_info": (
        "Name and model version of the release that the last run left in service, or scored with."
    ),
    "mnist_vae_images_scored_total": "Images scored in all runs that the journal has.",
    "mnist_vae_last_run_images": "Images scored in the last run.",
    "mnist_vae_anomalous_images_total": (
        "Images scored that are anomalies, in all runs that the journal has."
    ),
    "mnist_vae_last_run_anomalous_images": (
        "Images scored in the last run that are anomalies; none where its model has no threshold."
    ),
    "mnist_vae_disk_free_bytes": "Free space of the disk that has the data folder.",
    "mnist_vae_disk_size_bytes": "Size of the disk that has the data folder.",
}
"""What each figure is; that of one name is the same in the files of all jobs, as it must be."""

_BATCH_OUTCOMES = get_args(BatchRecord.model_fields["outcome"].annotation)


@dataclass(frozen=True)
class Figure:
    """One value, under a name of `HELP`."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def figures(data: Path, job: str, record: dict[str, Any]) -> tuple[list[Figure], list[str]]:
    """Return the figures of a job, and why some are missing.

    Args:
        data: The data folder.
        job: `retraining` or `scoring`.
        record: The last line of the run.
    """
    sources: list[Callable[[], Iterator[Figure]]] = [
        partial(_of_run, record),
        partial(_of_history, data, job, record),
        partial(_of_disk, data),
    ]
    if job == "scoring":
        sources.append(partial(_of_batches_to_embed, data, record))
    else:
        of_retraining = (_of_batches, _of_drift, _of_champion)
        sources += [partial(source, data) for source in of_retraining]
    found: list[Figure] = []
    problems = []
    for source in sources:
        try:
            found.extend(source())  # what it found before an error is kept
        except Exception as error:
            problems.append(printable(" ".join(str(error).split()) or type(error).__name__))
    return found, problems


def _of_run(record: dict[str, Any]) -> Iterator[Figure]:
    line = Line.model_validate(record)
    yield Figure("mnist_vae_last_run_timestamp_seconds", line.ended)
    for outcome in sorted({*Outcome, line.outcome} - {Outcome.LOCKED}):
        is_it = float(outcome == line.outcome)
        yield Figure("mnist_vae_last_run_outcome", is_it, {"outcome": str(outcome)})
    yield Figure("mnist_vae_last_run_duration_seconds", line.seconds)
    if "peak_memory_mb" in record:
        peak = record["peak_memory_mb"] * 2**20
        yield Figure("mnist_vae_last_run_peak_memory_bytes", peak)


def _of_history(data: Path, job: str, record: dict[str, Any]) -> Iterator[Figure]:
    line = Line.model_validate(record)
    history = read_history(data / "08_reporting" / job / "journal.jsonl", line)
    yield Figure("mnist_vae_last_success_timestamp_seconds", history.last_success)
    batches = Counter(history.batches.values())
    for outcome in sorted({*_BATCH_OUTCOMES, *batches}):
        yield Figure("mnist_vae_last_run_batches", batches[outcome], {"outcome": outcome})
    if job == "scoring":
        yield Figure("mnist_vae_images_scored_total", history.images_scored)
        yield Figure("mnist_vae_last_run_images", line.images)
        yield Figure("mnist_vae_anomalous_images_total", history.anomalous_images)
        if line.anomalous_images is not None:
            yield Figure("mnist_vae_last_run_anomalous_images", line.anomalous_images)
        if record.get("release"):
            yield _release(record["release"], record.get("model_version"))
        return
    yield Figure("mnist_vae_candidates_kept_in_a_row", history.kept_in_a_row)
    if history.candidate is not None:
        yield _negative_elbo(history.candidate, "candidate", "judge")
    if history.gain is not None:
        yield Figure("mnist_vae_candidate_gain_nats", history.gain)


def _of_batches(data: Path) -> Iterator[Figure]:
    yield _batches(len(_delivered(data / "01_raw/incoming")), "waiting")
    yield _batches(_tables(data / "02_intermediate/batches"), "in_use")
    yield _batches(_tables(data / "02_intermediate/withdrawn_batches"), "withdrawn")
    yield _batches(_folders(data / "01_raw/quarantine"), "quarantined")


def _of_batches_to_embed(data: Path, record: dict[str, Any]) -> Iterator[Figure]:
    # A run that ended before it knew its model is as far as the one whose embeddings are shown.
    model = record.get("release") or record.get("model_version") or "current"
    embedded = data / "07_model_output/batch_embeddings" / model
    delivered = _delivered(data / "01_raw/to_embed")
    done = [name for name in delivered if (embedded / f"{file_name(name)}.parquet").is_file()]
    yield _batches(len(delivered) - len(done), "waiting")
    yield _batches(_folders(data / "01_raw/to_embed_quarantine"), "quarantined")


def _of_drift(data: Path) -> Iterator[Figure]:
    try:
        intake = Intake.model_validate_json(
            (data / "02_intermediate/batch_intake.json").read_bytes()
        )
    except FileNotFoundError:
        intake = Intake()
    drifts = [record.drift for record in intake.batches.values() if record.drift]
    effect = max((drift.effect for drift in drifts), default=0.0)
    yield Figure("mnist_vae_drift_effect", effect)
    yield Figure("mnist_vae_drifted_batches", sum(drift.drifted for drift in drifts))


def _of_champion(data: Path) -> Iterator[Figure]:
    link = data / "06_models/champion"
    if not os.path.lexists(link):
        yield Figure("mnist_vae_release_number", 0)
        return
    release = read_release(Path(os.path.realpath(link)))
    yield Figure("mnist_vae_release_number", number_of(release.name))
    yield _release(release.name, release.manifest["model_version"])
    judged = release.manifest["candidate"]
    yield _negative_elbo(judged["negative_elbo"], "champion", "judge")
    test = release.load("metrics.json")["splits"]["test"]
    yield _negative_elbo(test["negative_elbo"], "champion", "test")


def _of_disk(data: Path) -> Iterator[Figure]:
    there = next(path for path in (data, *data.parents) if path.exists())
    usage = shutil.disk_usage(there)
    yield Figure("mnist_vae_disk_free_bytes", usage.free)
    yield Figure("mnist_vae_disk_size_bytes", usage.total)


def _batches(number: int, state: str) -> Figure:
    return Figure("mnist_vae_batches", number, {"state": state})


def _negative_elbo(value: float, model: str, images: str) -> Figure:
    return Figure("mnist_vae_negative_elbo_nats", value, {"model": model, "images": images})


def _release(name: str, model_version: str | None) -> Figure:
    labels = {"release": printable(name), "model_version": printable(model_version or "")}
    return Figure("mnist_vae_release_info", 1, labels)


def _delivered(folder: Path) -> list[str]:
    """Return the batches that are whole and that no run has confirmed."""
    return list(IncomingBatchesDataset(path=str(folder)).load())


def _tables(folder: Path) -> int:
    """Return how many batches there are in a folder that has a file each."""
    return sum(entry.name.endswith(".parquet") for entry in _shown(folder))


def _folders(folder: Path) -> int:
    """Return how many batches there are in a folder that has a folder each, or a link."""
    return sum(entry.is_dir() or entry.is_symlink() for entry in _shown(folder))


def _shown(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
