"""Tracking in MLflow, in the environments that have an `mlflow.yml`; others do not import it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.config import MissingConfigException
from kedro.framework.hooks import hook_impl

from mnist_vae.tracking import RunLog, TrackingConfig, read_config

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext

    from mnist_vae.jobs.release_files import Release
    from mnist_vae.tracking import Status

# Of what Kedro says about a run, that which is no tag: the parameters are logged one by one, and a
# runner has no name.
_NO_TAGS = ("runtime_params", "project_path", "runner")


class Tracking:
    """Track a run in MLflow: parameters, metrics, pictures, and the model in service.

    All of it is sent when the run is over. The runs that a command makes between `begin_command`
    and `end_command` are one run of MLflow.
    """

    def __init__(self) -> None:
        self._config: TrackingConfig | None = None
        self._log: RunLog | None = None
        self._command: str | None = None

    def begin_command(self, name: str) -> None:
        """Take what the next runs log as that of one run of this name."""
        self._command, self._log = name, None

    def end_command(self, status: Status, line: dict[str, Any], release: Release | None) -> None:
        """Send what the runs of the command have logged, its outcome, and the model in service."""
        name, self._command = self._command, None
        if self._config is not None and name is not None:
            self._log = self._log or RunLog(self._config, name, {})
            self._log.add_data(name, line)
            if release is not None:
                self._log.add_release(release)
            self.end(status)

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read `mlflow.yml`, where the environment has one.

        Raises:
            click.ClickException: The file is wrong.
        """
        self._config = None
        if self._command is None:
            self._log = None
        try:
            found = context.config_loader["mlflow"]
        except MissingConfigException:
            return
        if not found:  # Kedro raises nothing where the environment is the base itself
            return
        try:
            self._config = read_config(found, Path(context.project_path))
        except ValueError as error:
            raise click.ClickException(str(error)) from error

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Begin."""
        if self._config is None or (self._command and self._log):
            return
        names = self._command or ",".join(run_params["pipeline_names"] or ["__default__"])
        tags = {key: str(value) for key, value in run_params.items() if value}
        for key in _NO_TAGS:
            tags.pop(key, None)
        self._log = RunLog(self._config, names, tags)

    @hook_impl
    def before_node_run(self, inputs: dict[str, Any]) -> None:
        """Log the parameters that the node takes."""
        if self._log is not None:
            self._log.add_parameters(inputs)

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """See to it that the alias is where it should be, also after a run that was not tracked."""
        if self._log is not None and dataset_name == "champion" and data is not None:
            self._log.add_release(data)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what the run has made."""
        if self._log is not None:
            self._log.add_data(dataset_name.removeprefix("candidate_"), data)

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Send it as that of a run that has finished."""
        if self._command is None:
            self.end("FINISHED")

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Send it as that of a run that failed."""
        if self._command is None:
            self.end("FAILED")

    def end(self, status: Status) -> None:
        """Send what the run has logged, if it was not sent yet."""
        log, self._log = self._log, None
        if log is not None:
            log.send(status)
