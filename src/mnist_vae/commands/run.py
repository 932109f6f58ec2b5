"""One run of a job: a lock, a log, runs of Kedro, and a last line that says how it ended."""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.config import MissingConfigException
from kedro.framework.session import KedroSession
from kedro.io import DatasetError

from mnist_vae.config import check_parameters
from mnist_vae.failures import write_traceback
from mnist_vae.jobs.batches import put_away
from mnist_vae.jobs.job import LockedError, add_line, logged_to, notify, peak_memory_mb, take_lock
from mnist_vae.jobs.names import printable, with_environment
from mnist_vae.jobs.records import Intake, Outcome, Run
from mnist_vae.jobs.release_files import Release, champion

if TYPE_CHECKING:
    from mnist_vae.hooks.tracking import Status

logger = logging.getLogger(__name__)

Ending = tuple[Outcome, str]
"""How a run ended, and why."""

_ALARMS = (Outcome.FAILED, Outcome.BAD_DATA, Outcome.STALLED)

_INTAKES = {"retrain": "batch_intake", "score": "scoring_intake"}
"""The catalog entry that says what became of the batches of a command."""

_FOLDERS = {
    "retrain": ("incoming", "quarantine", "taken"),
    "score": ("to_embed", "to_embed_quarantine"),
}
"""In `01_raw`: for batches that arrive, for bad ones, and for those in use."""


class JobRun:
    """One run of a command of a job, with `params` for this run alone.

    Attributes:
        job: `retraining` or `scoring`, whose folder in `08_reporting` has lock, log and journal.
        data: The folder of the data.
        models: The folder of the models in it.
        parameters: Those of the environment and of `params`.
        line: What the last line will have.
    """

    def __init__(
        self,
        command: str,
        project: Path,
        env: str | None,
        params: dict[str, Any],
        conf_source: str | None,
    ) -> None:
        self.job = "scoring" if command == "score" else "retraining"
        self._command, self._env = command, env
        self._intake = _INTAKES.get(command)
        self._options: dict[str, Any] = {
            "project_path": project,
            "env": env,
            "runtime_params": params,
            "conf_source": conf_source,
        }
        session: KedroSession = KedroSession.create(**self._options)
        context = session.load_context()
        self._catalog = context.catalog
        self._webhook: str | None = None  # a credential
        with suppress(MissingConfigException, KeyError, TypeError):
            self._webhook = context.config_loader["credentials"]["webhook"]["url"]
        self.data = Path(context.project_path) / str(context.config_loader["globals"]["data"])
        self.models = self.data / "06_models"
        self.parameters = check_parameters(context.config_loader["parameters"])
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self.line: dict[str, Any] = {"run_id": session.session_id, "started": started}

    def run(self, pipeline: str, **part: Any) -> None:
        """Run a pipeline of Kedro, or a part of it, as `KedroSession.run` names it."""
        session: KedroSession = KedroSession.create(**self._options)
        with session:
            session.run(pipeline_names=[pipeline], **part)

    def load(self, name: str) -> Any:
        """Return what a run has saved, or what is there anyway."""
        return self._catalog.load(name)

    def execute(self, work: Callable[[JobRun], Ending]) -> Outcome:
        """Do `work`, tell journal, stdout, webhook and MLflow the outcome, and return it."""
        from mnist_vae.hooks.tracking import tracking

        began = time.monotonic()
        status: Status = "FINISHED"
        intake: Intake | None = None
        with ExitStack() as stack:
            try:
                stack.callback(take_lock(self._report(f"{self._command}.lock")).release)
                stack.enter_context(logged_to(self._report(f"{self.job}.log")))
            except LockedError as error:
                ending = Outcome.LOCKED, str(error)
            except OSError as error:
                reason = f"{self.data} cannot be written to ({error}); make it writable"
                ending = Outcome.FAILED, reason
            else:
                ending, status = self._end_of(work)
                intake = self.load(self._intake) if self._intake else None
            # From here to the end of the line, which must be whole.
            before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
            stack.callback(signal.signal, signal.SIGTERM, before)
            self._tell(*ending, intake, seconds=time.monotonic() - began)
        notify(self._webhook, self.line, self.parameters.retraining.webhook_timeout)
        tracking.end_command(self._command, status, self.line, self._champion())
        return ending[0]

    def _end_of(self, work: Callable[[JobRun], Ending]) -> tuple[Ending, Status]:
        try:
            if self._intake:  # of an earlier run
                (self.data / f"02_intermediate/{self._intake}.json").unlink(missing_ok=True)
            return work(self), "FINISHED"
        except KeyboardInterrupt:
            return (Outcome.FAILED, "it was asked to end"), "KILLED"
        except Exception as error:
            with suppress(OSError):
                write_traceback(error, self._report(f"{self.job}.log"))
            words = " ".join(str(error).split())
            return (Outcome.FAILED, words or type(error).__name__), "FAILED"

    def _tell(self, outcome: Outcome, reason: str, intake: Intake | None, seconds: float) -> None:
        reason = with_environment(printable(reason), self._env)
        if self.job == "retraining":
            release = self._champion()
            self.line["champion"] = release.manifest["model_version"] if release else None
        if intake is not None:
            self.line["batches"] = {name: one.outcome for name, one in intake.batches.items()}
        drifted = self.line.pop("drifted", {}) | (intake.effects() if intake else {})
        if drifted:
            self.line["drifted"] = {name: round(effect, 4) for name, effect in drifted.items()}
        if self.job == "scoring":
            scored = intake or Intake()
            self.line["images"] = scored.embedded_images
            self.line["anomalous_images"] = scored.anomalous_images
        run = Run(
            outcome=outcome,
            exit_code=outcome.exit_code,
            reason=reason,
            seconds=round(seconds, 1),
            peak_memory_mb=peak_memory_mb(),
            **self.line,
        )
        self.line = run.model_dump(mode="json", exclude_unset=True)
        level = logging.ERROR if outcome in _ALARMS else logging.INFO
        logger.log(level, "%s: %s.", outcome.replace("_", " ").capitalize(), reason.rstrip("."))
        line = json.dumps(self.line)
        # A bad batch that no line has stays where it came, so that the next run reports it.
        if add_line(self._report("journal.jsonl"), line) and intake is not None:
            put_away(intake, *(self.data / "01_raw" / name for name in _FOLDERS[self._command]))
        from mnist_vae.monitoring import write_metrics  # no other command needs it

        write_metrics(self.data, self.job, run, self.parameters.monitoring)
        try:
            click.echo(line)
        except OSError as error:  # a reader that has closed the pipe
            logger.warning("The last line was not printed (%s).", error)

    def _report(self, name: str) -> Path:
        path: Path = self.data / "08_reporting" / self.job / name
        return path

    def _champion(self) -> Release | None:
        """Return the release in service; None where it is damaged."""
        with suppress(DatasetError, OSError):
            return champion(self.models)
        return None
