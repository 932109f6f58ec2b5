"""The file that node_exporter reads for Prometheus: the old one or the new one, never a part."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mnist_vae.data.atomic import move, partial_beside
from mnist_vae.jobs.names import printable
from mnist_vae.jobs.records import Outcome
from mnist_vae.monitoring.figures import HELP, Figure, figures
from mnist_vae.params import MonitoringParams

logger = logging.getLogger(__name__)

# Another user enters and reads, whatever the umask of this one.
_FOLDER_MODE, _MODE = 0o755, 0o644


def write_metrics(data: Path, job: str, record: dict[str, Any], params: MonitoringParams) -> None:
    """Write the figures of a job to `<project>_<job>.prom`, at the end of a run; never raises.

    A figure that cannot be found out is left out, and one warning says why. A run that was locked
    out writes nothing: the one under way will, and only the holder of the lock does.

    Args:
        data: The data folder.
        job: `retraining` or `scoring`: it names the file and the label `pipeline`.
        record: The last line of the run.
        params: Where the file goes, and the label `project`.
    """
    if record.get("outcome") == Outcome.LOCKED:
        return
    folder = Path(params.textfile_folder or data / "08_reporting/prometheus")
    try:
        found, problems = figures(data, job, record)
        text = render(found, {"project": params.project, "pipeline": job})
        # One that was named and is not there is a mistake in its name.
        if params.textfile_folder is None and not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(_FOLDER_MODE)
        _replace(folder / f"{params.project}_{job}.prom", text)
    except Exception as error:
        logger.warning(
            "The figures for Prometheus were not written to %s: expected to be allowed to, "
            "received %s; nothing else depends on them.",
            *map(printable, (str(folder), " ".join(str(error).split()) or type(error).__name__)),
        )
        return
    if problems:
        logger.warning(
            "Some figures for Prometheus are missing: expected to find all out, received %s; "
            "nothing else depends on them.",
            "; ".join(problems),
        )


def render(found: Iterable[Figure], common: dict[str, str]) -> bytes:
    """Return the figures in Prometheus' text format, with the labels `common` before their own."""
    registry = CollectorRegistry()
    registry.register(_Families(found, common))
    return generate_latest(registry)


class _Families(Collector):
    """The figures by name, in the order of `HELP`."""

    def __init__(self, found: Iterable[Figure], common: dict[str, str]) -> None:
        self._found = list(found)
        self._common = common

    def collect(self) -> Iterable[Metric]:
        for name, text in HELP.items():
            if samples := [figure for figure in self._found if figure.name == name]:
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                family = kind(name, text, labels=[*self._common, *samples[0].labels])
                for figure in samples:
                    values = [*self._common.values(), *figure.labels.values()]
                    family.add_metric(values, figure.value)
                yield family


def _replace(path: Path, text: bytes) -> None:
    """Replace a file on a local disk, by one that no collector takes for its own before."""
    files = fsspec.filesystem("file")
    with partial_beside(files, PurePosixPath(f"{path}.new")) as partial:
        Path(partial).write_bytes(text)
        Path(partial).chmod(_MODE)
        move(files, partial, PurePosixPath(path))
