"""The retraining as a job: one at a time, an exit code a scheduler can read, and a trace of it."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import time
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from kedro.framework.hooks import hook_impl

from mnist_vae.params import check_parameters

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.io import CatalogProtocol

logger = logging.getLogger(__name__)

_PIPELINES = {"retraining", "rollback"}
_LOG_BYTES, _LOG_FILES = 1_000_000, 5
# What of a decision the last line has.
_FIGURES = ("gain", "gain_interval", "candidate", "model_version", "fingerprint")


class RetrainingJob:
    """Wrap a run of `retraining` or `rollback`; any other run goes by as if this were not here.

    Before the first node: take the lock, log to a file too, and repair the model in service. After
    the last one, or where the run is over sooner: one line of JSON on stdout, in the journal, and
    to the webhook; then the exit code of the outcome (`retraining.exit_codes`).
    """

    def __init__(self) -> None:
        self._record: dict[str, Any] | None = None
        self._lock: FileLock | None = None
        self._handler: logging.Handler | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember where the data are, and the parameters."""
        loader = context.config_loader
        self._data = Path(context.project_path) / loader["globals"]["data"]
        self._parameters = loader["parameters"]  # which `ParameterCheck` looks at

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Begin the job, unless another one is under way.

        Raises:
            SystemExit: With the exit code of `locked`, or of `failed` where nothing can be written.
        """
        if not _PIPELINES & set(run_params["pipeline_names"] or ()):
            return
        self._started = time.monotonic()
        self._catalog = catalog
        self._outcome = "kept", "a part of the pipeline was run, which decides nothing"
        self._params = check_parameters(self._parameters).retraining
        self._record = {
            "outcome": None,
            "exit_code": None,
            "run_id": run_params["run_id"],
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            self._take_lock()
            self._log_to_file()
            signal.signal(signal.SIGTERM, self._terminate)
            if repaired := catalog["promotion"].repair():
                logger.error("%s", repaired)
                self._record["repaired"] = repaired
        except Timeout:
            self._end("locked", f"another run is under way: {self._holder()}")
        except OSError as error:
            self._end("failed", f"{self._data} cannot be written to ({error}); make it writable")

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Note what was found out, and end the run where there is nothing to do.

        Raises:
            SystemExit: There is nothing to train on; with the exit code that says which way.
        """
        if self._record is None:
            return
        if dataset_name == "batch_intake":
            self._record["batches"] = {
                name: record["outcome"] for name, record in sorted(data.items())
            }
        elif dataset_name == "retraining_plan":
            self._record["fingerprint"] = data["fingerprint"]
            if data["outcome"] is not None:
                # A run that ends here has succeeded: what it saw is in use, or in quarantine.
                self._catalog.confirm("incoming_batches")
                self._end(data["outcome"], data["reason"])
        elif dataset_name == "promotion":
            self._record |= {name: data[name] for name in _FIGURES if name in data}
            self._outcome = data["outcome"], data["reason"]

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
            if self._handler:  # the console has the sentence; the file the traceback too
                trace = (type(error), error, error.__traceback__)
                level = {"levelno": logging.ERROR, "levelname": "ERROR"}
                self._handler.handle(
                    logging.makeLogRecord({**level, "msg": "Failed", "exc_info": trace})
                )
            self._end("failed", " ".join(str(error).split()) or type(error).__name__)

    def _terminate(self, signum: int, _: Any) -> None:
        """End the job here, as an exception would be caught by whatever is under way."""
        if self._record is not None:
            self._end("failed", f"it was asked to end ({signal.Signals(signum).name})")

    def _take_lock(self) -> None:
        """Take the lock, which the system frees when its holder dies, however it dies."""
        folder = self._data / "06_models"
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "retraining.lock")
        self._lock.acquire(timeout=0)
        holder = {"pid": os.getpid(), "started": self._record["started"]}  # type: ignore[index]
        (folder / "retraining.lock.json").write_text(json.dumps(holder) + "\n")

    def _holder(self) -> str:
        try:
            holder = json.loads((self._data / "06_models/retraining.lock.json").read_text())
            return f"process {holder['pid']}, since {holder['started']}"
        except (OSError, ValueError, KeyError):
            return "a process that has only just begun"

    def _log_to_file(self) -> None:
        folder = self._data / "08_reporting/retraining"
        folder.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(
            folder / "retraining.log",
            maxBytes=_LOG_BYTES,
            backupCount=_LOG_FILES,
            encoding="utf-8",
        )
        handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
        # A full disk is said once, by what failed for it, and not at every line of the log.
        handler.handleError = _say_nothing  # type: ignore[method-assign]
        logging.getLogger().addHandler(handler)
        self._handler = handler

    def _end(self, outcome: str, reason: str) -> None:
        record, self._record = self._record, None
        assert record is not None  # noqa: S101 - nobody ends a job that did not begin
        exit_code = getattr(self._params.exit_codes, outcome)
        record |= {
            "outcome": outcome,
            "exit_code": exit_code,
            "reason": reason,
            "champion": self._champion(),
            "seconds": round(time.monotonic() - self._started, 1),
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        level = logging.ERROR if outcome in ("failed", "bad_data") else logging.INFO
        logger.log(level, "%s: %s.", outcome.replace("_", " ").capitalize(), reason.rstrip("."))
        line = json.dumps(record, ensure_ascii=False)
        self._write_down(line)
        self._send(record)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        if self._handler:
            logging.getLogger().removeHandler(self._handler)
            self._handler.close()
        if self._lock:
            self._lock.release()
        if exit_code or outcome not in ("promoted", "kept", "rolled_back"):
            sys.exit(exit_code)

    def _champion(self) -> str | None:
        try:
            release = self._catalog.load("champion")
        except Exception:  # whatever is wrong there, the line must be printed
            return None
        return release.manifest["model_version"] if release else None

    def _write_down(self, line: str) -> None:
        path = self._data / "08_reporting/retraining/journal.jsonl"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as journal:
                journal.write(line + "\n")
        except OSError as error:
            logger.warning("The journal %s was not written (%s).", path, error)

    def _send(self, record: dict[str, Any]) -> None:
        if self._params.webhook_url is None:
            return
        import requests

        try:
            answer = requests.post(
                self._params.webhook_url, json=record, timeout=self._params.webhook_timeout
            )
            answer.raise_for_status()
        except requests.RequestException as error:
            logger.warning("The webhook was not told (%s); nothing else depends on it.", error)


def _say_nothing(record: logging.LogRecord) -> None:
    pass
