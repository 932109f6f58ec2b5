"""The figures of a job for Prometheus, as node_exporter's textfile collector reads them."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import prometheus_client as prometheus
import yaml

from mnist_vae.jobs.batches import finished_folders
from mnist_vae.jobs.names import file_name, one_line, printable
from mnist_vae.jobs.records import BatchRecord, Intake, Outcome
from mnist_vae.jobs.release_files import champion, number_of
from mnist_vae.params import MonitoringParams

Run = dict[str, Any]  # a line of the journal
Figures = Iterator[tuple[str, float, dict[str, str]]]  # name without prefix, value, labels

HELP: dict[str, str] = yaml.safe_load(
    files("mnist_vae").joinpath("monitoring.yml").read_text(encoding="utf-8")
)
"""What each figure is, by its name."""

logger = logging.getLogger(__name__)
prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]


def write_metrics(data: Path, job: str, record: Run, params: MonitoringParams) -> None:
    """Write the figures of a run, of which `record` is the last line, to `<project>_<job>.prom`."""
    if record.get("outcome") == Outcome.LOCKED:
        return
    sources = [_of_run(record), _of_history(data, job, record), _of_disk(data)]
    if job == "scoring":
        sources += [_of_scoring(data, record), _of_batches_to_embed(data, record)]
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
            "Some figures for Prometheus were not written to %s: expected to find all out and to "
            "be allowed to write them, received %s; nothing else depends on them.",
            printable(str(path)),
            "; ".join(problems),
        )


def _of_run(run: Run) -> Figures:
    yield "last_run_timestamp_seconds", _ended(run), {}
    for outcome in sorted(set(Outcome) - {Outcome.LOCKED}):
        yield "last_run_outcome", outcome == run["outcome"], {"outcome": outcome}
    yield "last_run_duration_seconds", run["seconds"], {}
    yield "last_run_peak_memory_bytes", run["peak_memory_mb"] * 2**20, {}


def _of_history(data: Path, job: str, record: Run) -> Figures:
    last_success, kept = 0.0, 0
    batches: dict[str, str] = {}
    judged: Run = {}
    for run in _runs(data, job, record):
        if _succeeded(run):
            last_success = _ended(run)
        if run.get("batches") or _succeeded(run):
            batches = run.get("batches", batches)
        if run.get("candidate"):
            judged = run
            kept += run["outcome"] in (Outcome.KEPT, Outcome.STALLED)
        if run["outcome"] in (Outcome.PROMOTED, Outcome.ROLLED_BACK):
            kept = 0
    yield "last_success_timestamp_seconds", last_success, {}
    counts = Counter(batches.values())
    for outcome in get_args(BatchRecord.model_fields["outcome"].annotation):
        yield "last_run_batches", counts[outcome], {"outcome": outcome}
    if job == "retraining":
        yield "candidates_kept_in_a_row", kept, {}
    if judged:
        labels = {"model": "candidate", "images": "judge"}
        yield "negative_elbo_nats", judged["candidate"]["negative_elbo"], labels
    if judged.get("gain") is not None:
        yield "candidate_gain_nats", judged["gain"], {}


def _of_disk(data: Path) -> Figures:
    usage = shutil.disk_usage(next(path for path in (data, *data.parents) if path.exists()))
    yield "disk_free_bytes", usage.free, {}
    yield "disk_size_bytes", usage.total, {}


def _of_scoring(data: Path, record: Run) -> Figures:
    runs = _runs(data, "scoring", record)
    for name, total in (("images", "images_scored"), ("anomalous_images", "anomalous_images")):
        yield f"{total}_total", sum(run.get(name) or 0 for run in runs), {}
        if record.get(name) is not None:
            yield f"last_run_{name}", record[name], {}
    if release := record.get("release"):
        labels = {"release": release, "model_version": record["model_version"] or ""}
        yield "release_info", 1, labels


def _of_batches_to_embed(data: Path, record: Run) -> Figures:
    # A run that ended before it knew its model is as far as the one whose embeddings are shown.
    model = record.get("release") or record.get("model_version") or "current"
    embedded = data / "07_model_output/batch_embeddings" / model
    names = [file_name(batch.name) for batch in finished_folders(data / "01_raw/to_embed")]
    waiting = [name for name in names if not (embedded / f"{name}.parquet").is_file()]
    yield "batches", len(waiting), {"state": "waiting"}
    yield "batches", _folders(data / "01_raw/to_embed_quarantine"), {"state": "quarantined"}


def _of_batches(data: Path) -> Figures:
    yield "batches", len(finished_folders(data / "01_raw/incoming")), {"state": "waiting"}
    for state, folder in (("in_use", "batches"), ("withdrawn", "withdrawn_batches")):
        found = list((data / "02_intermediate" / folder).glob("[!.]*.parquet"))
        yield "batches", len(found), {"state": state}
    yield "batches", _folders(data / "01_raw/quarantine"), {"state": "quarantined"}


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
        about = {"release": release.name, "model_version": facts["model_version"]}
        yield "release_info", 1, about
        value = facts["candidate"]["negative_elbo"]
        yield "negative_elbo_nats", value, labels | {"images": "judge"}
        value = release.load("metrics.json")["splits"]["test"]["negative_elbo"]
        yield "negative_elbo_nats", value, labels | {"images": "test"}


def _runs(data: Path, job: str, record: Run) -> list[Run]:
    journal = data / "08_reporting" / job / "journal.jsonl"
    runs = []
    for line in journal.read_bytes().splitlines() if journal.exists() else ():
        with suppress(ValueError):  # half a line, for which the disk was too full
            runs.append(json.loads(line))
    return runs if runs[-1:] == [record] else [*runs, record]


def _ended(run: Run) -> float:
    return datetime.fromisoformat(run["started"]).timestamp() + float(run["seconds"])


def _succeeded(run: Run) -> bool:
    """Return whether a run did what it is scheduled for; a part of the pipeline decides nothing."""
    if run["outcome"] == Outcome.KEPT:
        return "candidate" in run
    return run["outcome"] in (Outcome.PROMOTED, Outcome.NOTHING_NEW, Outcome.SCORED)


def _folders(folder: Path) -> int:
    return sum(path.is_dir() or path.is_symlink() for path in folder.glob("[!.]*"))
