"""The hook that makes jobs of the pipelines of the retraining, and of `scoring`.

It wraps what the other hooks do before a run, so that nobody begins anything before the lock is
taken, and whatever keeps the run from its first node ends the job as a failure does.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.config import MissingConfigException
from kedro.framework.hooks import hook_impl

from mnist_vae.jobs.job import (
    JOBS,
    Job,
    JobLock,
    Journal,
    LockedError,
    SignalWatch,
    asked_to_end,
    notify,
    peak_memory_mb,
    say,
)
from mnist_vae.jobs.names import printable, with_environment
from mnist_vae.jobs.records import (
    Decision,
    Decline,
    Intake,
    Outcome,
    Plan,
    Promote,
    Repair,
    RollBack,
    Scored,
    ScoringPlan,
    Withdrawal,
)
from mnist_vae.params import PREVIOUS, check_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from kedro.framework.context import KedroContext
    from kedro.io import CatalogProtocol

    from mnist_vae.tracking import Status

logger = logging.getLogger(__name__)

_ALARMS = (Outcome.FAILED, Outcome.BAD_DATA, Outcome.STALLED)
# What of a decision the last line has.
_FIGURES = {"gain", "gain_interval", "gains", "candidate", "champion", "model_version"}


class Jobs:
    """Wrap a run of a job's pipelines; any other run goes by as if this were not here.

    Before the first node: take the job's lock, log to a file too, and, where the job is about it,
    repair the model in service. After the last one, or where the run is over sooner: one line of
    JSON in the journal and on stdout, the figures for Prometheus, and, when the lock is free, the
    line to the webhook; then the exit code of the outcome.
    """

    def __init__(self, end_tracking: Callable[[Status], None] = lambda _: None) -> None:
        """Have this called, with how the run ended, when the lock is free."""
        self._record: dict[str, Any] | None = None
        self._end_tracking = end_tracking

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember where the data are, the parameters, and whom to tell.

        Raises:
            click.ClickException: The credential is not one.
        """
        loader = context.config_loader
        self._data = Path(context.project_path) / loader["globals"]["data"]
        self._parameters = loader["parameters"]  # which `Preflight` looks at
        try:
            webhook = loader["credentials"].get("webhook") or {}
        except MissingConfigException:
            webhook = {}
        if not isinstance(webhook, dict):  # it may be the secret, so that it is not repeated
            raise click.ClickException(
                "The credential `webhook` is wrong: expected a mapping, such as `webhook: {url: "
                f"https://...}}`, received a {type(webhook).__name__}; correct "
                "conf/*/credentials.yml."
            )
        self._webhook = webhook.get("url")

    @hook_impl(wrapper=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], catalog: CatalogProtocol[Any, Any]
    ) -> Generator[None, Any, Any]:
        """Begin the job, unless another one is under way, and then let the other hooks look.

        Raises:
            click.ClickException: Another pipeline was asked for beside that of a job.
            SystemExit: With the exit code of `locked`, or of `failed` where nothing can be written
                or another hook refuses the run.
        """
        self._begin(run_params, catalog)
        try:
            return (yield)
        except Exception as error:
            self.on_pipeline_error(error)  # Kedro tells nobody of it
            raise

    def _begin(self, run_params: dict[str, Any], catalog: CatalogProtocol[Any, Any]) -> None:
        if self._record is not None:
            self._let_go()  # of what an earlier run in this process did not live to end
        asked = set(run_params["pipeline_names"] or ())
        jobs = [job for job in JOBS if job.pipelines & asked]
        if not jobs:
            return
        if len(asked) > 1:
            raise click.ClickException(
                "A job ends its run as soon as it is done: expected its pipeline alone, received "
                f"{', '.join(sorted(asked))}; run one after the other."
            )
        self._job: Job = jobs[0]
        self._started = time.monotonic()
        self._env = run_params["env"]
        self._catalog = catalog
        reason = "a part of the pipeline was run, which decides nothing"
        self._outcome = self._job.undecided, reason
        parameters = check_parameters(self._parameters)
        self._monitoring = parameters.monitoring
        self._roll_back_to = parameters.retraining.roll_back_to
        self._webhook_timeout = parameters.retraining.webhook_timeout
        self._lock = JobLock(self._data / self._job.lock)
        self._journal = Journal(self._data / "08_reporting" / self._job.name, self._job.name)
        self._signals = SignalWatch()
        self._record = {
            "outcome": None,
            "exit_code": None,
            "run_id": run_params["run_id"],
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **self._job.line,
        }
        try:
            self._lock.take(self._record["started"])
            self._journal.open_log()
            self._signals.start()
            repair = catalog["release_order"].repair() if self._job.repairs else None
            adopted = catalog["release_order"].adopt() if "retraining" in asked else None
        except LockedError as error:
            self._end(Outcome.LOCKED, str(error), stop=True)
        except OSError as error:
            reason = f"{self._data} cannot be written to ({error}); make it writable"
            self._end(Outcome.FAILED, reason, stop=True)
        except Exception as error:
            self._fail(error)
        else:
            self._after_repair(repair, asked)
            if adopted and self._record is not None:
                logger.warning("%s is in service: its promotion was killed half way.", adopted)
                self._record["adopted"] = adopted

    def _after_repair(self, repair: Repair | None, asked: set[str]) -> None:
        if repair is None or self._record is None:
            return
        logger.error("%s", repair.sentence)
        self._record["repaired"] = printable(repair.sentence)
        # What was asked for is done, unless a release was named: once more would be too far.
        if "rollback" in asked and self._roll_back_to == PREVIOUS:
            back = repair.in_service is not None
            self._end(Outcome.ROLLED_BACK if back else Outcome.FAILED, repair.sentence, stop=True)

    @hook_impl
    def before_node_run(self) -> None:
        """End here when the process was asked to end and somebody caught the exception."""
        if self._record is not None:
            self._signals.check()

    @hook_impl
    def after_dataset_loaded(self) -> None:
        """Alike: a node may have long to do with it."""
        if self._record is not None:
            self._signals.check()

    @hook_impl
    def before_dataset_saved(self) -> None:
        """Alike: nothing is saved then, such as that a batch could not be read."""
        if self._record is not None:
            self._signals.check()

    @hook_impl
    def after_dataset_saved(self, data: Any) -> None:
        """Note what was found out, and end the run where there is nothing to do.

        Raises:
            SystemExit: There is nothing to do; with the exit code that says which way.
        """
        if self._record is None:
            return
        match data:
            case Intake():
                self._record["batches"] = {
                    name: record.outcome for name, record in sorted(data.batches.items())
                }
                self._note_drift(data.effects())
                if "images" in self._record:
                    self._record["images"] = data.embedded_images
                    self._record["anomalous_images"] = data.anomalous_images
            case Plan():
                self._record["fingerprint"] = data.fingerprint
                if data.outcome is not None:
                    # A run that ends here has succeeded: what it saw is in use, or in quarantine.
                    self._catalog.confirm("incoming_batches")
                    self._end(data.outcome, data.reason, stop=True)
            case Decision():
                figures = data.model_dump(mode="json", include=_FIGURES)
                if champion := figures.pop("champion"):
                    figures["beside"] = champion
                self._record |= figures
                self._note_drift(data.effects())
            case ScoringPlan():
                self._record |= {"release": data.release, "model_version": data.model_version}
                if data.outcome is not None:
                    self._end(data.outcome, data.reason, stop=True)
            case Promote() | Decline() | RollBack() | Withdrawal() | Scored():
                self._outcome = data.outcome, data.reason

    def _note_drift(self, effects: dict[str, float]) -> None:
        """Note the batches that have drifted, those of this run and those of earlier ones."""
        if self._record is not None and effects:
            rounded = {name: round(effect, 4) for name, effect in effects.items()}
            self._record["drifted"] = self._record.get("drifted", {}) | rounded

    @hook_impl
    def after_pipeline_run(self) -> None:
        """End the job as its decision says.

        Raises:
            SystemExit: With the exit code of the outcome, where it is not 0.
        """
        if self._record is not None:
            self._end(*self._outcome)

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """End the job as failed.

        Raises:
            SystemExit: With the exit code of `failed`.
        """
        if self._record is not None:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._journal.log_traceback(error)
        ended = asked_to_end(error)
        reason = " ".join(str(ended or error).split()) or type(error).__name__
        self._end(Outcome.FAILED, reason, stop=True, status="KILLED" if ended else "FAILED")

    def _end(
        self, outcome: Outcome, reason: str, *, stop: bool = False, status: Status = "FINISHED"
    ) -> None:
        """End the job, and the process where its exit code is not 0 or `stop` says so."""
        self._signals.ignore()  # the line that tells of the end must be whole
        record, self._record = self._record, None
        assert record is not None  # noqa: S101 - nobody ends a job that did not begin
        try:
            reason = with_environment(printable(reason), self._env)
            self._tell(record, outcome, reason)
            self._lock.free()
            self._signals.stop()  # whoever ends the process now loses the webhook and MLflow
            notify(self._webhook, record, self._webhook_timeout)
            self._end_tracking(status)
        finally:
            self._let_go()
        if outcome.exit_code or stop:
            sys.exit(outcome.exit_code)

    def _tell(self, record: dict[str, Any], outcome: Outcome, reason: str) -> None:
        """Log how the job ended, and give the line of it to all who read it here."""
        record |= {
            "outcome": outcome,
            "exit_code": outcome.exit_code,
            "reason": reason,
            **({"champion": self._champion()} if self._job.repairs else {}),
            "seconds": round(time.monotonic() - self._started, 1),
            "peak_memory_mb": peak_memory_mb(),
        }
        level = logging.ERROR if outcome in _ALARMS else logging.INFO
        logger.log(level, "%s: %s.", outcome.replace("_", " ").capitalize(), reason.rstrip("."))
        line = json.dumps(record, ensure_ascii=False)
        # Where the line says nothing of the batches, the next one has to.
        if self._journal.add(line) and record.get("batches"):
            self._mark_reported()
        self._write_metrics(record)
        say(line)

    def _write_metrics(self, record: dict[str, Any]) -> None:
        try:
            from mnist_vae.monitoring import write_metrics  # no other command needs it
        except ImportError as error:  # an environment older than the code
            logger.warning(
                "The figures for Prometheus were not written: expected the libraries of this "
                "version, received %s; run `pip install -c constraints.txt -e .`.",
                error,
            )
            return
        write_metrics(self._data, self._job.name, record, self._monitoring)

    def _let_go(self) -> None:
        """Leave the process as it was before the job."""
        self._record = None
        self._journal.close_log()
        self._signals.stop()
        self._lock.free()

    def _mark_reported(self) -> None:
        """Have the quarantine remember what the journal has: it is reported once, and not lost."""
        try:
            for name in self._job.quarantines:
                self._catalog.confirm(name)
        except Exception as error:  # it would be reported again
            logger.warning("The quarantine was not marked as reported (%s).", error)

    def _champion(self) -> str | None:
        try:
            release = self._catalog.load("champion")
        except Exception:  # whatever is wrong there, the line must be printed
            return None
        return release.manifest["model_version"] if release else None
