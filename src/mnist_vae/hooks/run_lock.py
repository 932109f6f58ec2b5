"""The hook that lets one run at a time write to a data folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.hooks import hook_impl

from mnist_vae.jobs.job import JOB_PIPELINES, JobLock, LockedError

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext


class RunLock:
    """Refuse a run while another one is under way in its data folder.

    Else one would continue with the model of the other. What jobs run has locks and files of its
    own.
    """

    _lock: JobLock | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember where the data are."""
        self._data = Path(context.project_path) / context.config_loader["globals"]["data"]

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Take the lock.

        Raises:
            click.ClickException: Another run has it, or the folder cannot be written to.
        """
        self._release()  # of a run that another hook refused, in the same process
        if JOB_PIPELINES & set(run_params["pipeline_names"] or ()):
            return
        lock = JobLock(self._data / ".run.lock")
        try:
            lock.take(datetime.now(UTC).isoformat(timespec="seconds"))
        except LockedError as error:
            raise click.ClickException(
                f"The data folder {self._data} is in use: expected one run at a time, received "
                f"this one while {error}; wait for it, or give this one another folder with "
                "`--params data_folder=PATH`."
            ) from error
        except OSError as error:
            raise click.ClickException(
                f"The data folder {self._data} cannot be written to: expected a lock file in it, "
                f"received an error ({error}); make room, or make it writable."
            ) from error
        self._lock = lock

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Give the lock back."""
        self._release()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Give the lock back."""
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
