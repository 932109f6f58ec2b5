"""Tracking in MLflow, in the environments that have an `mlflow.yml`; others do not import it."""

from __future__ import annotations

import logging
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.config import MissingConfigException
from kedro.framework.hooks import hook_impl

from mnist_vae.jobs.job import asked_to_end
from mnist_vae.jobs.records import Decline, Promote, RollBack
from mnist_vae.tracking.config import TrackingConfig, TrackingConfigError, read_config
from mnist_vae.tracking.run import Status, TrackedRun, open_run

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.io import CatalogProtocol

    from mnist_vae.jobs.release_files import Release

logger = logging.getLogger(__name__)

# Of what Kedro says about a run, that which is no tag: the parameters are logged one by one, and a
# runner has no name.
_NO_TAGS = ("runtime_params", "project_path", "runner")


class Tracking:
    """Track a run in MLflow: parameters, metrics, pictures, and the model in service.

    Whatever MLflow raises is logged in one sentence and ends the tracking, never the run, and so
    does an exchange that has not come to its end by the deadline (`tracking.run.DEADLINE`). Named
    before the hook of the jobs in the settings, it opens a run of MLflow after the job has taken
    its lock.
    """

    def __init__(self) -> None:
        self._config: TrackingConfig | None = None
        self._run: TrackedRun | None = None
        self._catalog: Any = None
        self._followed: str | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read `mlflow.yml`, where the environment has one.

        Raises:
            click.ClickException: The file is wrong.
        """
        self._close_what_was_left_open()
        self._config = None
        loader: Any = context.config_loader
        loader.config_patterns.setdefault("mlflow", ["mlflow*"])
        try:
            found = loader["mlflow"]
        except MissingConfigException:
            return
        if not found:  # Kedro raises nothing where the environment is the base itself
            return
        try:
            self._config = read_config(found, Path(context.project_path))
        except TrackingConfigError as error:
            raise click.ClickException(str(error)) from error

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Connect, and open a run of MLflow."""
        self._close_what_was_left_open()
        if self._config is None:
            return
        self._catalog, self._followed = catalog, None
        names = ",".join(run_params["pipeline_names"] or ["__default__"])
        tags = {
            name: str(value) for name, value in run_params.items() if value and name not in _NO_TAGS
        }
        with self._harmless():
            self._run = open_run(self._config, names, tags)

    # First here too, and as a dataset is loaded: if the process was asked to end in the meantime,
    # the hook of the jobs, called next, ends it before the node begins, which may train for long.
    @hook_impl(tryfirst=True)
    def before_node_run(self, inputs: dict[str, Any]) -> None:
        """Log the parameters that the node takes."""
        if self._run is not None:
            with self._harmless():
                self._run.log_parameters(inputs)

    @hook_impl(tryfirst=True)
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """See to it that the alias is where it should be, also after a run that was not tracked."""
        if self._run is not None and dataset_name == "champion":
            with self._harmless():
                self._follow(self._run, data)

    @hook_impl(tryfirst=True)
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what the run has made."""
        if self._run is not None:
            with self._harmless():
                if isinstance(data, Promote | Decline | RollBack):
                    self._follow(self._run, self._catalog.load("champion"))
                else:
                    self._run.log(dataset_name.removeprefix("candidate_"), data)

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self) -> None:
        """Close the run of MLflow."""
        self._close("FINISHED")

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Close the run of MLflow as failed, or as killed where the process was asked to end."""
        self._close("KILLED" if asked_to_end(error) else "FAILED")

    def _close(self, status: Status) -> None:
        if self._run is not None:
            with self._harmless():
                self._run.close(status)
                self._run = None

    def _close_what_was_left_open(self) -> None:
        """Close the run of an earlier job in this process, as in a notebook, which ended itself."""
        run, self._run = self._run, None
        if run is not None:
            run.close_as_left()

    def _follow(self, run: TrackedRun, release: Release | None) -> None:
        """Have the alias `champion` name the release in service, registered if it is new."""
        if release is not None and release.name != self._followed:
            from mnist_vae.tracking.registry import follow

            run.call(follow, run.client, run.id, release)
            self._followed = release.name

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """Keep from the run what MLflow raises, and track it no further."""
        try:
            yield
        except Exception as error:
            if asked_to_end(error):
                return  # the job raises it again, where it does no harm
            run, self._run = self._run, None
            logger.warning(
                "This run is not tracked%s: expected %s, received %s; the run itself goes on.",
                " any further" if run is not None else "",
                *_expected_and_received(error),
            )
            # One that has not answered is told at the end of the process, when the lock is free.
            if run is not None and not isinstance(error, TimeoutError):
                with suppress(Exception):
                    run.close("KILLED")


def _expected_and_received(error: Exception) -> tuple[str, str]:
    if isinstance(error, ModuleNotFoundError):
        return "`pip install -c constraints.txt -e '.[mlflow]'`", f"no module {error.name}"
    message = re.sub(r"//[^/\s]*@", "//", " ".join(str(error).split()))  # less a password
    message = textwrap.shorten(message, 250, placeholder=" …")
    return "MLflow to answer", f"{type(error).__name__} ({message})"
