"""Commands of this project, which Kedro finds here."""

import click

from mnist_vae.schedule.alerts import alerts
from mnist_vae.schedule.commands import schedule


@click.group()
def cli() -> None:
    """Commands of this project."""


schedule.add_command(alerts)
cli.add_command(schedule)
