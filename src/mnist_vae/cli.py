"""Commands of this project, where Kedro looks for them; `run` ends an error in one sentence."""

from __future__ import annotations

from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from mnist_vae import config, failures
from mnist_vae.commands import jobs
from mnist_vae.explorer.commands import explore
from mnist_vae.schedule.commands import schedule
from mnist_vae.sweep import sweep


def _run(**options: Any) -> Any:
    options["env"] = config.enter(options["conf_source"], options["env"])
    return kedro_run.callback(**options)  # type: ignore[misc]


run = failures.Command(
    "run",
    callback=_run,
    params=[
        *kedro_run.params,
        click.Option(["--traceback"], is_flag=True, help="Print the traceback of a failure too."),
    ],
    help=kedro_run.help,
)


@click.group(name="kedro")  # Kedro lists the commands of one name together, each once
def cli() -> None:
    """Commands of this project."""


for command in (run, *jobs.COMMANDS, explore, schedule, sweep):
    cli.add_command(command)
