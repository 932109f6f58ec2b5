"""`kedro schedule alerts`: when Prometheus calls a person."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from mnist_vae import failures
from mnist_vae.config import loader_of
from mnist_vae.parameter_check import check_parameters
from mnist_vae.schedule.commands import environment, render

if TYPE_CHECKING:
    from kedro.framework.startup import ProjectMetadata

NEVER = "never"
_HOUR = 3600
# As Prometheus writes durations, in seconds. A turn of milliseconds is a slip.
_UNITS = {"y": 365 * 86400, "w": 7 * 86400, "d": 86400, "h": _HOUR, "m": 60, "s": 1}
_DURATION = re.compile("".join(rf"(?:(?P<{unit}>\d{{1,6}}){unit})?" for unit in _UNITS))


def _turn(_: click.Context, __: click.Parameter, value: str) -> tuple[str, int]:
    """Return the time between two runs as it was given, and its seconds: 0 for `never`."""
    match = _DURATION.fullmatch(value)
    seconds = sum(int(n) * _UNITS[u] for u, n in match.groupdict("0").items()) if match else 0
    if not seconds and value != NEVER:
        raise click.BadParameter(
            "it is not the time between two runs: expected a duration as Prometheus writes it, "
            f"such as 7d, 1h or 1d12h, or `{NEVER}` for a job that is not scheduled, received "
            f"{value!r}; correct it."
        )
    return value, seconds


@click.command(cls=failures.Command)
@environment
@click.option(
    "--turn",
    callback=_turn,
    default="7d",
    show_default=True,
    help=f"Time between two runs of the retraining, such as 7d or 1d12h, or `{NEVER}`.",
)
@click.option(
    "--scoring-turn",
    callback=_turn,
    default="1h",
    show_default=True,
    help=f"Time between two runs of the scoring, or `{NEVER}`.",
)
@click.option(
    "--disk-free",
    type=click.IntRange(1, 99),
    default=10,
    show_default=True,
    help="Per cent of the disk that must be free.",
)
@click.pass_obj
def alerts(
    project: ProjectMetadata,
    env: str,
    turn: tuple[str, int],
    scoring_turn: tuple[str, int],
    disk_free: int,
) -> None:
    """Print alert rules for Prometheus."""
    conf = str(project.project_path / "conf")
    name = check_parameters(loader_of(conf, env)["parameters"]).monitoring.project
    click.echo(render("alerts.yml", project=name, disk_free=str(disk_free)), nl=False)
    for pipeline, (given, seconds) in {"retraining": turn, "scoring": scoring_turn}.items():
        if seconds:
            rules = render(
                "alerts_job.yml",
                project=name,
                pipeline=pipeline,
                turn=given,
                seconds=str(seconds),
                grace=f"{min(seconds, _HOUR)}s",
            )
            click.echo(rules, nl=False)
