"""The commands of `kedro schedule`, which write what runs a job on a schedule."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import click

from mnist_vae import config, failures
from mnist_vae.jobs.records import Outcome

if TYPE_CHECKING:
    from kedro.framework.startup import ProjectMetadata

COMMANDS = {"retraining": "retrain", "scoring": "score"}
_TITLES = {"retraining": "Retraining of the VAE", "scoring": "Embedding of new batches by the VAE"}
_CRON = {"retraining": "0 3 * * 0", "scoring": "0 * * * *"}
_SYSTEMD = {"retraining": "Sun 03:00", "scoring": "hourly"}

# Schedulers read quotes, backslashes and braces differently, and take no control characters.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\"'\\{}]|\s\Z")
_UNITS = {"y": 365 * 86400, "w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True)
class Scheduled:
    """A job, and the one command that every scheduler runs for it in the project's folder."""

    job: str
    calendar: str
    project: str
    command: list[str]

    def render(self, template: str, literal: Callable[[Any], str], **more: str) -> str:
        """Return a template of this room with all of it, in the scheduler's own form."""
        return _render(
            template,
            job=self.job,
            title=_TITLES[self.job],
            calendar=literal(self.calendar),
            project=literal(self.project),
            locked=Outcome.LOCKED.exit_code,
            **more,
        )


@click.group()
def schedule() -> None:
    """Write what a scheduler needs to run a job, with the paths of this project."""


def _environment(context: click.Context, _: click.Parameter, env: str) -> str | None:
    return config.check_environment(str(context.obj.project_path / "conf"), env)


_Option = partial(click.Option, show_default=True)
_Folder = partial(
    click.Option,
    ["--folder"],
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the files go.",
)
_JOB = _Option(["--job"], help="Which.", type=click.Choice(list(COMMANDS)), default="retraining")
_ENV = _Option(["--env"], help="Kedro's environment.", default="prod", callback=_environment)
_WHEN = "When, as the scheduler has it; `{retraining}`, and `{scoring}` for scoring."
_AS_CRON = [_JOB, _ENV, click.Option(["--calendar"], help=_WHEN.format(**_CRON))]
_AS_SYSTEMD = [_JOB, _ENV, click.Option(["--calendar"], help=_WHEN.format(**_SYSTEMD))]
_UNITS_FOLDER = _Folder(
    default=lambda: Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config", "systemd/user"),
    show_default="~/.config/systemd/user",
)
_DAGS_FOLDER = _Folder(
    default=lambda: Path(os.environ.get("AIRFLOW_HOME") or "~/airflow", "dags"),
    show_default="~/airflow/dags",
)


def _scheduled(
    project: ProjectMetadata, usual: dict[str, str], *, job: str, env: str, calendar: str | None
) -> Scheduled:
    """Return a job of the project, in the `usual` calendar of its scheduler where none is given.

    Raises:
        click.ClickException: A scheduler would not read its paths or its calendar as they are.
    """
    kedro = str(Path(sys.executable).with_name("kedro"))
    calendar = calendar or usual[job]
    for text in (kedro, str(project.project_path), calendar):
        if _UNSAFE.search(text):
            raise click.ClickException(
                "This cannot be scheduled: expected no quote, backslash, brace or control "
                "character, no white space at its end, and UTF-8, received "
                f"{text!r}; move the project or its environment, or correct --calendar."
            )
    words = [kedro, COMMANDS[job], "--env", env]
    return Scheduled(job, calendar, str(project.project_path), words)


@schedule.command(cls=failures.Command, params=[_UNITS_FOLDER, *_AS_SYSTEMD])
@click.pass_obj
def systemd(project: ProjectMetadata, /, folder: Path, **how: Any) -> None:
    """Write a service and its timer, as units of your user."""
    scheduled = _scheduled(project, _SYSTEMD, **how)
    program, *arguments = (word.replace("%", "%%") for word in scheduled.command)
    # The colon, which systemd takes within the quotes, leaves every $ as it is.
    command = " ".join([f'":{program}"', *arguments])
    for kind in ("service", "timer"):
        text = scheduled.render(f"job.{kind}", lambda t: t.replace("%", "%%"), command=command)
        _write(folder / f"mnist-vae-{scheduled.job}.{kind}", text)


@schedule.command(cls=failures.Command, params=_AS_CRON)
@click.pass_obj
def cron(project: ProjectMetadata, /, **how: Any) -> None:
    """Print a line for your crontab."""
    scheduled = _scheduled(project, _CRON, **how)
    line = f"cd {shlex.quote(scheduled.project)} && {shlex.join(scheduled.command)}"
    click.echo(f"# {_TITLES[scheduled.job]}")
    click.echo(f"{scheduled.calendar} " + line.replace("%", r"\%"))  # else a line's end


@schedule.command(cls=failures.Command, params=[_DAGS_FOLDER, *_AS_CRON])
@click.pass_obj
def airflow(project: ProjectMetadata, /, folder: Path, **how: Any) -> None:
    """Write a DAG for Apache Airflow 3."""
    scheduled = _scheduled(project, _CRON, **how)
    command = _literal(shlex.join(scheduled.command))
    text = scheduled.render("airflow_dag.py.template", _literal, command=command)
    _write(folder / f"mnist_vae_{scheduled.job}.py", text)


_IMAGE = click.Option(["--image"], help="The image built from the Dockerfile.", required=True)


@schedule.command(cls=failures.Command, params=[_IMAGE, *_AS_CRON])
@click.pass_obj
def kubernetes(project: ProjectMetadata, /, image: str, **how: Any) -> None:
    """Print a CronJob and the claim of its data, for `kubectl apply -f -`."""
    scheduled = _scheduled(project, _CRON, **how)
    arguments = _literal(scheduled.command[1:])
    more = {"image": _literal(image), "arguments": arguments}
    click.echo(scheduled.render("cronjob.yaml", _literal, **more), nl=False)


def _interval(_: click.Context, __: click.Parameter, value: str) -> tuple[str, int]:
    """Return the time between two runs as it was given, and its seconds: 0 for `never`."""
    is_one = re.fullmatch(r"(\d{1,6}[ywdhms])+", value)
    seconds = sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)(\w)", value))
    if value != "never" and not (is_one and seconds):
        raise click.BadParameter(
            "it is not the time between two runs: expected a duration as Prometheus writes it, "
            "such as 7d, 1h or 1d12h, or `never` for a job that is not scheduled, received "
            f"{value!r}; correct it."
        )
    return value, seconds


_TURN = "Time between two runs of the {}, such as 7d or 1d12h, or `never`."
_TURNS = [
    _Option(["--turn"], help=_TURN.format("retraining"), default="7d", callback=_interval),
    _Option(["--scoring-turn"], help=_TURN.format("scoring"), default="1h", callback=_interval),
]
_FREE = "Per cent of the disk that must be free."
_DISK_FREE = _Option(["--disk-free"], help=_FREE, type=click.IntRange(1, 99), default=10)


@schedule.command(cls=failures.Command, params=[_ENV, *_TURNS, _DISK_FREE])
@click.pass_obj
def alerts(project: ProjectMetadata, /, env: str, disk_free: int, **turns: tuple[str, int]) -> None:
    """Print alert rules for Prometheus."""
    loader = config.loader_of(str(project.project_path / "conf"), env)
    name = config.check_parameters(loader["parameters"]).monitoring.project
    click.echo(_render("alerts.yml", project=name, disk_free=disk_free), nl=False)
    for job, turn in (("retraining", "turn"), ("scoring", "scoring_turn")):
        given, seconds = turns[turn]
        if seconds:
            times = {"turn": given, "seconds": seconds, "grace": f"{min(seconds, 3600)}s"}
            click.echo(_render("alerts_job.yml", project=name, job=job, **times), nl=False)


def _literal(value: str | list[str]) -> str:
    """Return `value` as a literal that YAML and Python share."""
    return json.dumps(value, ensure_ascii=False)


def _render(template: str, **values: Any) -> str:
    text = files("mnist_vae").joinpath("schedule", template).read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _write(path: Path, text: str) -> None:
    path = path.expanduser().resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    click.echo(f"Wrote {path}")
