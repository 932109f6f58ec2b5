"""The commands of `kedro schedule`, which write what runs a job on a schedule."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import click

from mnist_vae import config, failures
from mnist_vae.jobs.records import Outcome
from mnist_vae.schedule import checks

if TYPE_CHECKING:
    from kedro.framework.startup import ProjectMetadata


@dataclass(frozen=True)
class Scheduled:
    """What schedulers are told of one job.

    Attributes:
        title: What it is, for people.
        systemd: When it runs, as systemd.time(7) has it.
        cron: Alike, as cron has it.
        final: The outcomes that the same data would come to again, so that a person should look.
        final_why: They in words.
    """

    title: str
    systemd: str
    cron: str
    final: tuple[Outcome, ...]
    final_why: str


JOBS = {
    "retraining": Scheduled(
        title="Retraining of the VAE",
        systemd="Sun 03:00",
        cron="0 3 * * 0",
        final=(Outcome.BAD_DATA, Outcome.STALLED),
        final_why="Bad data, or candidates that are kept out for the same drifted batches",
    ),
    "scoring": Scheduled(
        title="Embedding of new batches by the VAE",
        systemd="hourly",
        cron="0 * * * *",
        final=(Outcome.BAD_DATA,),
        final_why="Bad data",
    ),
}


@click.group()
def schedule() -> None:
    """Write what a scheduler needs to run a job, with the paths of this project."""


def _existing(context: click.Context, _: click.Parameter, env: str) -> str | None:
    """Refuse an environment that is not there: else the first run would, at night."""
    return config.check_environment(str(context.obj.project_path / "conf"), env)


environment = click.option(
    "--env", default="prod", show_default=True, callback=_existing, help="Kedro's environment."
)
job = click.option(
    "--pipeline",
    type=click.Choice(list(JOBS)),
    default="retraining",
    show_default=True,
    help="The job.",
)
calendar_of_cron = click.option(
    "--calendar",
    callback=checks.cron_calendar,
    show_default="0 3 * * 0, and 0 * * * * for scoring",
    help="When: minute, hour, day, month and weekday, as cron has them.",
)


@schedule.command(cls=failures.Command)
@job
@environment
@click.option(
    "--calendar",
    callback=checks.systemd_calendar,
    show_default="Sun 03:00, and hourly for scoring",
    help="When, as systemd.time(7) has it.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config", "systemd/user"),
    show_default="~/.config/systemd/user",
    help="Where the units go.",
)
@click.pass_obj
def systemd(
    project: ProjectMetadata, pipeline: str, env: str, calendar: str | None, folder: Path
) -> None:
    """Write a service and its timer, as units of your user."""
    title = JOBS[pipeline].title
    command = _command(pipeline, env)
    checks.check_folder_of_unit(str(project.project_path))
    checks.check_program_of_unit(command[0])
    service = render(
        "job.service",
        title=title,
        project=str(project.project_path).replace("%", "%%"),
        # The colon, which systemd takes within the quotes, leaves every $ as it is.
        command=" ".join(map(_quoted_for_systemd, [f":{command[0]}", *command[1:]])),
        locked=str(Outcome.LOCKED.exit_code),
    )
    timer = render("job.timer", title=title, calendar=calendar or JOBS[pipeline].systemd)
    units = {f"mnist-vae-{pipeline}.service": service, f"mnist-vae-{pipeline}.timer": timer}
    checks.check_units(units)
    for name, text in units.items():
        _write(folder / name, text)


@schedule.command(cls=failures.Command)
@job
@environment
@calendar_of_cron
@click.pass_obj
def cron(project: ProjectMetadata, pipeline: str, env: str, calendar: str | None) -> None:
    """Print a line for your crontab."""
    folder = shlex.quote(str(project.project_path))
    command = f"cd {folder} && {shlex.join(_command(pipeline, env))}"
    checks.check_line(command)
    line = render(
        "crontab",
        title=JOBS[pipeline].title,
        calendar=calendar or JOBS[pipeline].cron,
        command=command.replace("%", r"\%"),  # a bare % is a line's end to cron
    )
    click.echo(line, nl=False)


@schedule.command(cls=failures.Command)
@job
@environment
@calendar_of_cron
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: Path(os.environ.get("AIRFLOW_HOME") or "~/airflow", "dags"),
    show_default="$AIRFLOW_HOME/dags",
    help="Airflow's folder of DAGs.",
)
@click.pass_obj
def airflow(
    project: ProjectMetadata, pipeline: str, env: str, calendar: str | None, folder: Path
) -> None:
    """Write a DAG for Apache Airflow 3."""
    scheduled = JOBS[pipeline]
    command = _command(pipeline, env)
    for path in (str(project.project_path), command[0]):
        checks.check_line(path)
    dag = render(
        "airflow_dag.py.template",
        title=scheduled.title,
        pipeline=pipeline,
        project=_literal(str(project.project_path)),
        command=_literal(command),
        calendar=_literal(calendar or scheduled.cron),
        nothing_new=Outcome.NOTHING_NEW,
        final=_literal(sorted(outcome.exit_code for outcome in scheduled.final)),
        final_why=scheduled.final_why,
    )
    _write(folder / f"mnist_vae_{pipeline}.py", dag)


@schedule.command(cls=failures.Command)
@job
@environment
@calendar_of_cron
@click.option("--image", required=True, help="The image built from the Dockerfile.")
def kubernetes(pipeline: str, env: str, calendar: str | None, image: str) -> None:
    """Print a CronJob and the claim of its data, for `kubectl apply -f -`."""
    manifest = render(
        "cronjob.yaml",
        pipeline=pipeline,
        image=_literal(image),
        # The image runs `mnist-vae`, which is `kedro run`.
        arguments=_literal(_arguments(pipeline, env)[1:]),
        calendar=_literal(calendar or JOBS[pipeline].cron),
    )
    click.echo(manifest, nl=False)


def _command(pipeline: str, env: str) -> list[str]:
    """Return the one command that every scheduler runs."""
    kedro = Path(sys.executable).with_name("kedro")
    return [str(kedro), *_arguments(pipeline, env)]


def _arguments(pipeline: str, env: str) -> list[str]:
    return ["run", "--pipelines", pipeline, "--env", env]


def _quoted_for_systemd(word: str) -> str:
    """Return `word` as systemd takes it for one."""
    word = word.replace("%", "%%")
    if re.fullmatch(r"[\w./:%$-]+", word):
        return word
    escaped = word.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def _literal(value: str | list[str] | list[int]) -> str:
    """Return `value` as a literal that YAML and Python share."""
    return json.dumps(value, ensure_ascii=False)


def render(template: str, **values: str) -> str:
    """Return a template of this folder with its values."""
    text = files("mnist_vae").joinpath("schedule", template).read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _write(path: Path, text: str) -> None:
    path = path.expanduser().resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    click.echo(f"Wrote {path}")
