"""Commands of this project, which Kedro finds here."""

import click

from mnist_vae.schedule.commands import schedule


@click.group()
def cli() -> None:
    """Commands of this project."""


cli.add_command(schedule)
