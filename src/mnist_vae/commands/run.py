"""One run of a job: a lock, a log, runs of Kedro, and a last line that says how it ended."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.config import MissingConfigException
from kedro.framework.session import KedroSession
from kedro.io import DatasetError

from mnist_vae.config import check_parameters
from mnist_vae.jobs.batches import put_away
from mnist_vae.jobs.job import (
    JobLock,
    LockedError,
    Signals,
    Terminated,
    add_line,
    log_traceback,
    logged_to,
    notify,
    peak_memory_mb,
    say,
)
from mnist_vae.jobs.names import printable, with_environment
from mnist_vae.jobs.records import Intake, Outcome
from mnist_vae.jobs.release_files import champion

if TYPE_CHECKING:
    from mnist_vae.hooks.tracking import Status

logger = logging.getLogger(__name__)

Ending = tuple[Outcome, str]
"""How a run ended, and why."""

_ALARMS = (Outcome.FAILED, Outcome.BAD_DATA, Outcome.STALLED)


@dataclass(frozen=True)
class Job:
    """How one job differs from another.

    Attributes:
        command: That of `kedro`.
        name: Of its log, and of the folder in `08_reporting` that has its log and journal.
        lock: The file of its lock, in the folder of the data.
        intake: The catalog entry that says what became of its batches.
        folders: In `01_raw`: for batches that arrive, for bad ones, and for those in use.
        line: What its last line has in any case.
    """

    command: str
    name: str
    lock: str
    intake: str | None = None
    folders: tuple[str, ...] = ()
    line: dict[str, Any] = field(default_factory=dict)


class JobRun:
    """One run of a job, with `params` for this run alone.

    Attributes:
        data: The folder of the data.
        parameters: Those of the environment and of `params`.
        line: What the last line will have.

    Raises:
        click.ClickException: The configuration is wrong.
    """

    def __init__(
        self,
        job: Job,
        project: Path,
        env: str | None,
        params: dict[str, Any],
        conf_source: str | None,
    ) -> None:
        self._job, self._env = job, env
        self._options: dict[str, Any] = {
            "project_path": project,
            "env": env,
            "runtime_params": params,
            "conf_source": conf_source,
        }
        session = self._session()
        context = session.load_context()
        self._catalog = context.catalog
        self._webhook = _webhook_of(context.config_loader)
        self.data = Path(context.project_path) / str(context.config_loader["globals"]["data"])
        self.parameters = check_parameters(context.config_loader["parameters"])
        self.line: dict[str, Any] = {
            "outcome": None,
            "exit_code": None,
            "run_id": session.session_id,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **job.line,
        }

    def run(self, *pipelines: str, **part: Any) -> None:
        """Run pipelines of Kedro, or a part of them, as `KedroSession.run` names it."""
        session = self._session()
        with session:
            session.run(pipeline_names=list(pipelines), **part)

    def _session(self) -> KedroSession:
        session: KedroSession = KedroSession.create(**self._options)
        return session

    def load(self, name: str) -> Any:
        """Return what a run has saved, or what is there anyway."""
        return self._catalog.load(name)

    def take_batches(self) -> None:
        """Move the good batches that the last run of `intake` has looked at to `taken`."""
        incoming, _, taken = self._folders()
        put_away(self.load("batch_intake"), incoming, None, taken)

    def _folders(self) -> list[Path]:
        return [self.data / "01_raw" / name for name in self._job.folders]

    def note_drift(self, effects: dict[str, float]) -> None:
        """Note batches that have drifted, of this run or of earlier ones."""
        if effects:
            rounded = {name: round(effect, 4) for name, effect in effects.items()}
            self.line["drifted"] = self.line.get("drifted", {}) | rounded

    def execute(self, work: Callable[[JobRun], Ending]) -> Outcome:
        """Do `work`, tell journal, stdout, webhook and MLflow the outcome, and return it."""
        from mnist_vae.hooks.tracking import tracking

        tracking.begin_command(self._job.command)
        began = time.monotonic()
        lock = JobLock(self.data / self._job.lock)
        status: Status = "FINISHED"
        intake: Intake | None = None
        with Signals() as signals, ExitStack() as stack:
            stack.callback(lock.release)
            try:
                lock.take(self.line["started"])
                log = stack.enter_context(logged_to(self._report(f"{self._job.name}.log")))
            except LockedError as error:
                ending = Outcome.LOCKED, str(error)
            except OSError as error:
                reason = f"{self.data} cannot be written to ({error}); make it writable"
                ending = Outcome.FAILED, reason
            else:
                try:
                    self._forget_batches()
                    ending = work(self)
                except (Exception, Terminated) as error:
                    status = "KILLED" if isinstance(error, Terminated) else "FAILED"
                    log_traceback(log, error)
                    words = " ".join(str(error).split())
                    ending = Outcome.FAILED, words or type(error).__name__
                intake = self._intake()
            signals.ignore()  # the line must be whole
            self._tell(*ending, intake, seconds=time.monotonic() - began)
        notify(self._webhook, self.line, self.parameters.retraining.webhook_timeout)
        tracking.end_command(status, self.line, self._champion_of_models())
        return ending[0]

    def _tell(self, outcome: Outcome, reason: str, intake: Intake | None, seconds: float) -> None:
        reason = with_environment(printable(reason), self._env)
        self.line |= {"outcome": outcome, "exit_code": outcome.exit_code, "reason": reason}
        if self._job.name == "retraining":
            release = self._champion_of_models()
            self.line["champion"] = release.manifest["model_version"] if release else None
        if intake is not None:
            self._note_batches(intake)
        self.line |= {"seconds": round(seconds, 1), "peak_memory_mb": peak_memory_mb()}
        level = logging.ERROR if outcome in _ALARMS else logging.INFO
        logger.log(level, "%s: %s.", outcome.replace("_", " ").capitalize(), reason.rstrip("."))
        line = json.dumps(self.line, ensure_ascii=False)
        # A bad batch that no line has stays where it came, so that the next run reports it.
        if add_line(self._report("journal.jsonl"), line) and intake is not None:
            put_away(intake, *self._folders())
        self._write_metrics()
        say(line)

    def _report(self, name: str) -> Path:
        path: Path = self.data / "08_reporting" / self._job.name / name
        return path

    def _champion_of_models(self) -> Any:
        """Return the release in service; None where it is damaged."""
        try:
            return champion(self.data / "06_models")
        except (DatasetError, OSError):
            return None

    def _intake(self) -> Intake | None:
        return None if self._job.intake is None else self.load(self._job.intake)

    def _forget_batches(self) -> None:
        if self._job.intake is not None:
            (self.data / "02_intermediate" / f"{self._job.intake}.json").unlink(missing_ok=True)

    def _note_batches(self, intake: Intake) -> None:
        records = sorted(intake.batches.items())
        self.line["batches"] = {name: record.outcome for name, record in records}
        self.note_drift(intake.effects())
        if "images" in self.line:
            self.line["images"] = intake.embedded_images
            self.line["anomalous_images"] = intake.anomalous_images

    def _write_metrics(self) -> None:
        try:
            from mnist_vae.monitoring import write_metrics  # no other command needs it
        except ImportError as error:  # an environment older than the code
            logger.warning(
                "The figures for Prometheus were not written: expected the libraries of this "
                "version, received %s; run `pip install -c constraints.txt -e .`.",
                error,
            )
            return
        write_metrics(self.data, self._job.name, self.line, self.parameters.monitoring)


def _webhook_of(loader: Any) -> str | None:
    """Return the address of the webhook, a credential."""
    try:
        webhook = loader["credentials"].get("webhook") or {}
    except MissingConfigException:
        return None
    if not isinstance(webhook, dict):  # it may be the secret, so that it is not repeated
        raise click.ClickException(
            "The credential `webhook` is wrong: expected a mapping, such as `webhook: {url: "
            f"https://...}}`, received a {type(webhook).__name__}; correct conf/*/credentials.yml."
        )
    url = webhook.get("url")
    return None if url is None else str(url)
