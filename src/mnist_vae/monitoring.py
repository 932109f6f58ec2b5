"""The figures of a job for Prometheus, in the file that node_exporter's textfile collector reads.

What is not there yet, such as a first model, is no error.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import yaml
from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mnist_vae.failures import one_line
from mnist_vae.jobs.batches import finished_folders
from mnist_vae.jobs.names import file_name, printable
from mnist_vae.jobs.records import BatchRecord, Intake, Outcome
from mnist_vae.jobs.release_files import number_of, read_release
from mnist_vae.params import MonitoringParams

logger = logging.getLogger(__name__)

HELP: dict[str, str] = yaml.safe_load(
    files("mnist_vae").joinpath("monitoring.yml").read_text(encoding="utf-8")
)
"""What each figure is, by its name."""

_NEGATIVE_ELBO = "mnist_vae_negative_elbo_nats"


def write_metrics(data: Path, job: str, record: dict[str, Any], params: MonitoringParams) -> None:
    """Write the figures of a job to `<project>_<job>.prom`, at the end of a run; never raises.

    A run that was locked out writes nothing, as the one under way will.

    Args:
        data: The data folder.
        job: `retraining` or `scoring`: it names the file and the label `pipeline`.
        record: The last line of the run.
        params: Where the file goes, and the label `project`.
    """
    if record.get("outcome") == Outcome.LOCKED:
        return
    figures = _Figures(data, job, record, project=params.project, pipeline=job)
    folder = Path(params.textfile_folder or data / "08_reporting/prometheus")
    path = folder / f"{params.project}_{job}.prom"
    problems = []
    for step in (*figures.sources, partial(_write, figures, path, params.textfile_folder is None)):
        try:
            step()  # what a source has added before an error is kept
        except Exception as error:
            problems.append(one_line(str(error)) or type(error).__name__)
    if problems:
        logger.warning(
            "Some figures for Prometheus were not written to %s: expected to find all out and to "
            "be allowed to write them, received %s; nothing else depends on them.",
            printable(str(path)),
            "; ".join(problems),
        )


def _write(figures: Collector, path: Path, make_folder: bool) -> None:
    if make_folder and not path.parent.is_dir():  # one that was named is not made: it is a mistake
        path.parent.mkdir(parents=True)
        path.parent.chmod(0o755)  # another user enters and reads, whatever the umask of this one
    registry = CollectorRegistry()
    registry.register(figures)
    write_to_textfile(str(path), registry)
    path.chmod(0o644)


class _Figures(Collector):
    """Figures of one run, from its line, the journal and the data folder."""

    def __init__(self, data: Path, job: str, record: dict[str, Any], **labels: str) -> None:
        self._data, self._run, self._labels = data, record, labels
        self._journal = data / "08_reporting" / job / "journal.jsonl"
        self._families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        scoring = (self._scored, self._batches_to_embed)
        retraining = (self._batches, self._drift, self._champion)
        of_job = scoring if job == "scoring" else retraining
        self.sources = (self._last_run, self._history, self._disk, *of_job)

    def collect(self) -> Iterator[Metric]:
        yield from self._families.values()

    def _add(self, name: str, value: float, **labels: str) -> None:
        labels = {**self._labels, **labels}
        if name not in self._families:
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            self._families[name] = kind(name, HELP[name], labels=list(labels))
        self._families[name].add_metric(list(map(printable, labels.values())), float(value))

    def _runs(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of all runs; a full disk may have kept this one out of the journal."""
        last = None
        if self._journal.exists():
            for line in self._journal.read_bytes().splitlines():
                with suppress(ValueError):  # half a line, for which the disk was too full
                    last = json.loads(line)
                    yield last
        if last != self._run:
            yield self._run

    def _last_run(self) -> None:
        run = self._run
        self._add("mnist_vae_last_run_timestamp_seconds", _ended(run))
        for outcome in sorted(set(Outcome) - {Outcome.LOCKED}):
            self._add("mnist_vae_last_run_outcome", outcome == run["outcome"], outcome=outcome)
        self._add("mnist_vae_last_run_duration_seconds", run["seconds"])
        self._add("mnist_vae_last_run_peak_memory_bytes", run["peak_memory_mb"] * 2**20)

    def _history(self) -> None:
        """Add what the last success, the last batches and the last candidates were."""
        last_success, kept = 0.0, 0
        batches: dict[str, str] = {}
        judged: dict[str, Any] = {}
        for run in self._runs():
            if _succeeded(run):
                last_success = _ended(run)
            if run.get("batches") or _succeeded(run):
                batches = run.get("batches", batches)
            if run.get("candidate"):
                judged = run
                kept += run["outcome"] in (Outcome.KEPT, Outcome.STALLED)
            if run["outcome"] in (Outcome.PROMOTED, Outcome.ROLLED_BACK):
                kept = 0
        self._add("mnist_vae_last_success_timestamp_seconds", last_success)
        counts = Counter(batches.values())
        for outcome in get_args(BatchRecord.model_fields["outcome"].annotation):
            self._add("mnist_vae_last_run_batches", counts[outcome], outcome=outcome)
        if self._labels["pipeline"] == "retraining":
            self._add("mnist_vae_candidates_kept_in_a_row", kept)
        if judged:
            value = judged["candidate"]["negative_elbo"]
            self._add(_NEGATIVE_ELBO, value, model="candidate", images="judge")
        if judged.get("gain") is not None:
            self._add("mnist_vae_candidate_gain_nats", judged["gain"])

    def _scored(self) -> None:
        runs = list(self._runs())
        for name in ("images", "anomalous_images"):
            numbers = [run.get(name) for run in runs]
            total = "images_scored" if name == "images" else name
            self._add(f"mnist_vae_{total}_total", sum(number or 0 for number in numbers))
            if numbers[-1] is not None:
                self._add(f"mnist_vae_last_run_{name}", numbers[-1])
        if release := self._run.get("release"):
            version = self._run["model_version"] or ""
            self._add("mnist_vae_release_info", 1, release=release, model_version=version)

    def _batches(self) -> None:
        tables = self._data / "02_intermediate"
        waiting = len(finished_folders(self._data / "01_raw/incoming"))
        self._add("mnist_vae_batches", waiting, state="waiting")
        for state, folder in (("in_use", "batches"), ("withdrawn", "withdrawn_batches")):
            found = list((tables / folder).glob("[!.]*.parquet"))
            self._add("mnist_vae_batches", len(found), state=state)
        quarantined = _folders(self._data / "01_raw/quarantine")
        self._add("mnist_vae_batches", quarantined, state="quarantined")

    def _batches_to_embed(self) -> None:
        # A run that ended before it knew its model is as far as the one whose embeddings are shown.
        model = self._run.get("release") or self._run.get("model_version") or "current"
        embedded = self._data / "07_model_output/batch_embeddings" / model
        batches = finished_folders(self._data / "01_raw/to_embed")
        names = [file_name(batch.name) for batch in batches]
        waiting = [name for name in names if not (embedded / f"{name}.parquet").is_file()]
        self._add("mnist_vae_batches", len(waiting), state="waiting")
        quarantined = _folders(self._data / "01_raw/to_embed_quarantine")
        self._add("mnist_vae_batches", quarantined, state="quarantined")

    def _drift(self) -> None:
        path = self._data / "02_intermediate/batch_intake.json"
        intake = Intake.model_validate_json(path.read_bytes()) if path.exists() else Intake()
        drifts = [record.drift for record in intake.batches.values() if record.drift]
        effect = max((drift.effect for drift in drifts), default=0)
        self._add("mnist_vae_drift_effect", effect)
        self._add("mnist_vae_drifted_batches", sum(drift.drifted for drift in drifts))

    def _champion(self) -> None:
        link = self._data / "06_models/champion"
        if not os.path.lexists(link):
            self._add("mnist_vae_release_number", 0)
            return
        release = read_release(Path(os.path.realpath(link)))
        self._add("mnist_vae_release_number", number_of(release.name))
        version = release.manifest["model_version"]
        self._add("mnist_vae_release_info", 1, release=release.name, model_version=version)
        value = release.manifest["candidate"]["negative_elbo"]
        self._add(_NEGATIVE_ELBO, value, model="champion", images="judge")
        value = release.load("metrics.json")["splits"]["test"]["negative_elbo"]
        self._add(_NEGATIVE_ELBO, value, model="champion", images="test")

    def _disk(self) -> None:
        there = next(path for path in (self._data, *self._data.parents) if path.exists())
        usage = shutil.disk_usage(there)
        self._add("mnist_vae_disk_free_bytes", usage.free)
        self._add("mnist_vae_disk_size_bytes", usage.total)


def _ended(run: Mapping[str, Any]) -> float:
    """Return when a run ended, in seconds since 1970."""
    return datetime.fromisoformat(run["started"]).timestamp() + float(run["seconds"])


def _succeeded(run: Mapping[str, Any]) -> bool:
    """Return whether a run did what it is scheduled for; a part of the pipeline decides nothing."""
    if run["outcome"] == Outcome.KEPT:
        return "candidate" in run
    return run["outcome"] in (Outcome.PROMOTED, Outcome.NOTHING_NEW, Outcome.SCORED)


def _folders(folder: Path) -> int:
    """Return how many batches are in quarantine, each a folder or a link."""
    return sum(path.is_dir() or path.is_symlink() for path in folder.glob("[!.]*"))
