"""The figures of a job for Prometheus, as node_exporter's textfile collector reads them."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import get_args

import prometheus_client as prometheus
import yaml
from pydantic import ValidationError

from mnist_vae.jobs.batches import finished_folders
from mnist_vae.jobs.names import file_name, one_line, printable
from mnist_vae.jobs.records import BatchOutcome, Intake, Outcome, Run
from mnist_vae.jobs.release_files import champion, number_of
from mnist_vae.params import MonitoringParams

Figures = Iterator[tuple[str, float, dict[str, str]]]  # name without prefix, value, labels

HELP: dict[str, str] = yaml.safe_load(
    files("mnist_vae").joinpath("monitoring.yml").read_text(encoding="utf-8")
)
"""What each figure is, by its name."""

_SUCCESSES = (Outcome.PROMOTED, Outcome.KEPT, Outcome.NOTHING_NEW, Outcome.SCORED)

logger = logging.getLogger(__name__)
prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]


def write_metrics(data: Path, job: str, run: Run, params: MonitoringParams) -> None:
    """Write the figures of a run to `<project>_<job>.prom`."""
    if run.outcome is Outcome.LOCKED:
        return
    sources = [_of_run(data, run), _of_journal(data, job, run)]
    if job == "scoring":
        sources.append(_of_scoring(data, run))
    else:
        sources += [_of_batches(data), _of_drift(data), _of_champion(data)]
    registry, problems = prometheus.CollectorRegistry(), []
    metrics: dict[str, prometheus.Gauge | prometheus.Counter] = {}
    for source in sources:
        try:
            for figure, value, more in source:
                name, labels = f"mnist_vae_{figure}", {"project": params.project, "pipeline": job}
                labels |= more
                if name not in metrics:
                    kind = prometheus.Counter if name.endswith("_total") else prometheus.Gauge
                    metrics[name] = kind(name, HELP[name], list(labels), registry=registry)
                metrics[name].labels(*map(printable, labels.values())).inc(value)
        except Exception as error:
            problems.append(one_line(str(error)) or type(error).__name__)
    folder = Path(params.textfile_folder or data / "08_reporting/prometheus")
    path = folder / f"{params.project}_{job}.prom"
    try:
        if params.textfile_folder is None and not folder.is_dir():
            folder.mkdir(parents=True)
            folder.chmod(0o755)  # another user reads it, whatever the umask of this one
        prometheus.write_to_textfile(str(path), registry)
        path.chmod(0o644)
    except OSError as error:
        problems.append(one_line(str(error)))
    if problems:
        logger.warning(
            "Figures for Prometheus were not written to %s (%s); nothing else depends on them.",
            printable(str(path)),
            "; ".join(problems),
        )


def _of_run(data: Path, run: Run) -> Figures:
    yield "last_run_timestamp_seconds", _end_of(run), {}
    for outcome in sorted({*Outcome} - {Outcome.LOCKED}):
        yield "last_run_outcome", outcome == run.outcome, {"outcome": outcome}
    yield "last_run_duration_seconds", run.seconds, {}
    yield "last_run_peak_memory_bytes", run.peak_memory_mb * 2**20, {}
    usage = shutil.disk_usage(data)
    yield "disk_free_bytes", usage.free, {}
    yield "disk_size_bytes", usage.total, {}


def _of_journal(data: Path, job: str, last: Run) -> Figures:
    runs = _runs(data / "08_reporting" / job / "journal.jsonl", last)
    ends = [_end_of(run) for run in runs if run.outcome in _SUCCESSES]
    yield "last_success_timestamp_seconds", ends[-1] if ends else 0, {}
    looked = [run.batches for run in runs if run.batches or run.outcome in _SUCCESSES]
    counts = Counter(looked[-1].values() if looked else ())
    for outcome in get_args(BatchOutcome):
        yield "last_run_batches", counts[outcome], {"outcome": outcome}
    if job == "scoring":
        yield "images_scored_total", sum(run.images or 0 for run in runs), {}
        yield "anomalous_images_total", sum(run.anomalous_images or 0 for run in runs), {}
        return
    kept = 0
    for run in runs:
        if run.outcome in (Outcome.PROMOTED, Outcome.ROLLED_BACK):
            kept = 0
        elif run.candidate is not None:
            kept += run.outcome in (Outcome.KEPT, Outcome.STALLED)
    yield "candidates_kept_in_a_row", kept, {}
    judged = [(run.candidate, run.gain) for run in runs if run.candidate is not None]
    for candidate, gain in judged[-1:]:
        labels = {"model": "candidate", "images": "judge"}
        yield "negative_elbo_nats", candidate.negative_elbo, labels
        if gain is not None:
            yield "candidate_gain_nats", gain, {}


def _runs(journal: Path, last: Run) -> list[Run]:
    runs: list[Run] = []
    for line in journal.read_bytes().splitlines() if journal.exists() else ():
        with suppress(ValidationError):  # half a line, for which the disk was too full
            runs.append(Run.model_validate_json(line))
    return runs if runs[-1:] == [last] else [*runs, last]


def _end_of(run: Run) -> float:
    return datetime.fromisoformat(run.started).timestamp() + run.seconds


def _of_scoring(data: Path, run: Run) -> Figures:
    if run.images is not None:
        yield "last_run_images", run.images, {}
    if run.anomalous_images is not None:
        yield "last_run_anomalous_images", run.anomalous_images, {}
    if run.release:
        version = run.model_version or ""
        yield "release_info", 1, {"release": run.release, "model_version": version}
    # A run that ended before it knew its model is as far as the one whose embeddings are shown.
    model = run.release or run.model_version or "current"
    embedded = data / "07_model_output/batch_embeddings" / model
    names = [file_name(batch.name) for batch in finished_folders(data / "01_raw/to_embed")]
    waiting = [name for name in names if not (embedded / f"{name}.parquet").is_file()]
    yield "batches", len(waiting), {"state": "waiting"}
    bad = finished_folders(data / "01_raw/to_embed_quarantine")
    yield "batches", len(bad), {"state": "quarantined"}


def _of_batches(data: Path) -> Figures:
    for state, folder in (("waiting", "incoming"), ("quarantined", "quarantine")):
        yield "batches", len(finished_folders(data / "01_raw" / folder)), {"state": state}
    for state, folder in (("in_use", "batches"), ("withdrawn", "withdrawn_batches")):
        found = list((data / "02_intermediate" / folder).glob("[!.]*.parquet"))
        yield "batches", len(found), {"state": state}


def _of_drift(data: Path) -> Figures:
    path = data / "02_intermediate/batch_intake.json"
    intake = Intake.model_validate_json(path.read_bytes()) if path.exists() else Intake()
    drifts = [record.drift for record in intake.batches.values() if record.drift]
    yield "drift_effect", max((drift.effect for drift in drifts), default=0), {}
    yield "drifted_batches", sum(drift.drifted for drift in drifts), {}


def _of_champion(data: Path) -> Figures:
    release = champion(data / "06_models")
    yield "release_number", number_of(release.name) if release else 0, {}
    if release is not None:
        facts, labels = release.manifest, {"model": "champion"}
        version = facts["model_version"]
        yield "release_info", 1, {"release": release.name, "model_version": version}
        value = facts["candidate"]["negative_elbo"]
        yield "negative_elbo_nats", value, labels | {"images": "judge"}
        value = release.load("metrics.json")["splits"]["test"]["negative_elbo"]
        yield "negative_elbo_nats", value, labels | {"images": "test"}
