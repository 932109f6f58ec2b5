"""One run of a sweep: `kedro run` in a process and a folder of its own."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from omegaconf import OmegaConf

from mnist_vae.datasets.atomic import write_json
from mnist_vae.retraining.names import printable
from mnist_vae.sweep.records import Figures, RunOrder, RunResult

CONFIG, LOG, RESULT = "run.yml", "run.log", "result.json"
_POLL_SECONDS = 0.25
_GRACE_SECONDS = 15.0  # in which a run that is stopped closes what it has open
_ONE_THREAD = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
_LONGEST_LINE = 1_000
_TERMS = ("negative_elbo", "reconstruction", "kl")


class Stopped(Exception):  # noqa: N818 - it is no error of the program
    """The sweep was asked to end before this run had."""


def execute(
    order: RunOrder,
    stopped: Callable[[], bool],
    *,
    core: int | None = None,
    one_thread: bool = False,
) -> RunResult:
    """Run it, unless it has its result; a training that was interrupted resumes.

    Two processes never work in one folder: where the run of a sweep that was killed still runs,
    this waits for it.

    Args:
        order: What to run.
        stopped: Whether the sweep was asked to end.
        core: The only core that the run may use; None for all.
        one_thread: Whether its libraries are to use one thread each.

    Raises:
        Stopped: The sweep was asked to end, and the run was stopped.
    """
    order.folder.mkdir(parents=True, exist_ok=True)
    with _locked(order.folder / "lock", stopped) as lock:
        if result := earlier_result(order):
            return result
        (order.folder / RESULT).unlink(missing_ok=True)
        _prepare(order)
        code = _run(order, stopped, lock, core, one_thread)
        if code == 0:
            figures = read_figures(order.data)
            write_json(
                order.folder / RESULT,
                {"fingerprint": order.fingerprint, "figures": asdict(figures)},
            )
            return _result(order, figures)
        said = last_line(order.folder / LOG) or f"it ended with {code}, and said nothing"
        return RunResult(order.setting, order.seed, order.folder, "failed", last_line=said)


def earlier_result(order: RunOrder) -> RunResult | None:
    """Return the result that is there, if it is of these parameters, data and code."""
    try:
        found = json.loads((order.folder / RESULT).read_text(encoding="utf-8"))
        if found["fingerprint"] != order.fingerprint:
            return None
        return _result(order, Figures(**found["figures"]), earlier=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_figures(data: Path) -> Figures:
    """Return what the last training in this data folder reached."""
    metrics = json.loads((data / "08_reporting/metrics.json").read_text(encoding="utf-8"))
    summary_path = data / "06_models/training_summary.json"
    summary = json.loads(summary_path.read_text(encoding="utf-8"))
    return Figures(
        splits={
            split: {term: metrics["splits"][split][term] for term in _TERMS}
            for split in ("validation", "test")
        },
        reconstruction_term=metrics["reconstruction_term"],
        validation_images=summary["images"]["validation"],
        model_version=summary["model_version"],
        epochs=summary["epochs"],
        training_seconds=summary["duration_seconds"],
    )


def last_line(log: Path) -> str:
    """Return the last line that is not empty."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = next((line for line in reversed(lines) if line.strip()), "")
    return printable(said.strip().removeprefix("Error: ")[:_LONGEST_LINE])


def _result(order: RunOrder, figures: Figures, *, earlier: bool = False) -> RunResult:
    return RunResult(order.setting, order.seed, order.folder, "done", figures, earlier=earlier)


def _prepare(order: RunOrder) -> None:
    """Write the options of the run, and lead to the raw images that all runs share."""
    order.raw.mkdir(parents=True, exist_ok=True)
    order.data.mkdir(exist_ok=True)
    link = order.data / order.raw.name
    if not link.is_symlink():
        link.symlink_to(order.raw)
    options: dict[str, Any] = {"pipelines": ",".join(order.pipelines), "params": order.params}
    if order.env is not None:
        options["env"] = order.env
    OmegaConf.save(OmegaConf.create({"run": options}), order.folder / CONFIG)


def _run(
    order: RunOrder,
    stopped: Callable[[], bool],
    lock: IO[str],
    core: int | None,
    one_thread: bool,
) -> int:
    """Run `kedro run` until it ends, and return its exit code."""
    threads = dict.fromkeys(_ONE_THREAD, "1") if one_thread else {}
    with (order.folder / LOG).open("w", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603
            _command(order),
            cwd=order.project,
            env={**os.environ, **threads, **order.variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in a terminal is for the sweep, which stops its runs
            pass_fds=[lock.fileno()],  # the run keeps the lock also when the sweep is killed
        )
    try:
        if core is not None and hasattr(os, "sched_setaffinity"):
            with suppress(ProcessLookupError):  # it ended at once
                os.sched_setaffinity(process.pid, {core})
        while True:
            if stopped():
                raise Stopped
            with suppress(subprocess.TimeoutExpired):
                return process.wait(_POLL_SECONDS)
    finally:
        _stop(process)


def _command(order: RunOrder) -> list[str]:
    return [sys.executable, "-m", "kedro", "run", "--config", str(order.folder / CONFIG)]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt the run as Ctrl-C does, if it still runs, and kill it if it does not end."""
    for request in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, request)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)


@contextmanager
def _locked(path: Path, stopped: Callable[[], bool]) -> Iterator[IO[str]]:
    """Hold the lock of a run's folder, which the system frees when its last holder is gone."""
    with path.open("w", encoding="utf-8") as file:
        while not stopped():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_POLL_SECONDS)
            else:
                yield file
                return
        raise Stopped
