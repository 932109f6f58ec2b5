"""The commands of `kedro schedule`, which write what runs a job on a schedule.

What a scheduler would refuse at night, or take for another path, is refused here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import click

from mnist_vae import config, failures
from mnist_vae.jobs.records import Outcome

if TYPE_CHECKING:
    from kedro.framework.startup import ProjectMetadata


@dataclass(frozen=True)
class Scheduled:
    """A job as schedulers see it.

    Attributes:
        command: That of `kedro`.
        title: What it is, for people.
        systemd: When it runs, as systemd.time(7) has it.
        cron: The same in cron's form.
    """

    command: str
    title: str
    systemd: str
    cron: str


JOBS = {
    "retraining": Scheduled("retrain", "Retraining of the VAE", "Sun 03:00", "0 3 * * 0"),
    "scoring": Scheduled("score", "Embedding of new batches by the VAE", "hourly", "0 * * * *"),
}

# Quotes, backslashes and braces are read differently by each scheduler, and a control character or
# a byte that is not UTF-8 by none.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\"'\\{}]|\s\Z")
_SHORT = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly")  # that all of them know
_ITEM = r"(\*|\w+(-\w+)?)(/[1-9]\d?)?"
_FIELD = re.compile(rf"{_ITEM}(,{_ITEM})*", re.ASCII)
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))  # minute, hour, day, month, weekday


@click.group()
def schedule() -> None:
    """Write what a scheduler needs to run a job, with the paths of this project."""


def _environment(context: click.Context, _: click.Parameter, env: str) -> str | None:
    """Refuse an environment that is not there: else the first run would, at night."""
    return config.check_environment(str(context.obj.project_path / "conf"), env)


def _cron_calendar(_: click.Context, __: click.Parameter, calendar: str | None) -> str | None:
    if calendar is None or calendar in _SHORT:
        return calendar
    fields = re.split(" +", calendar)
    if len(fields) == len(_RANGES) and all(map(_is_field, fields, _RANGES)):
        return calendar
    raise click.BadParameter(
        "it is no calendar: expected minute, hour, day, month and weekday as cron has them, such "
        f"as `0 3 * * 0`, or one of {', '.join(_SHORT)}, received {calendar!r}; correct it."
    )


def _is_field(text: str, ends: tuple[int, int]) -> bool:
    numbers = map(int, re.findall(r"(?<![/\w])\d+", text))
    return bool(_FIELD.fullmatch(text)) and all(ends[0] <= n <= ends[1] for n in numbers)


def _systemd_calendar(_: click.Context, __: click.Parameter, calendar: str | None) -> str | None:
    if calendar is None:
        return None
    wrong = _UNSAFE.search(calendar) or not calendar
    if wrong or _analyzed("calendar", "--", calendar).returncode:
        raise click.BadParameter(
            "it is no calendar: expected one as systemd.time(7) has it, such as `Sun 03:00`, "
            f"received {calendar!r}; try yours with `systemd-analyze calendar`."
        )
    return calendar


environment = click.option(
    "--env", default="prod", show_default=True, callback=_environment, help="Kedro's environment."
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
    callback=_cron_calendar,
    show_default="0 3 * * 0, and 0 * * * * for scoring",
    help="When: minute, hour, day, month and weekday, as cron has them.",
)


@schedule.command(cls=failures.Command)
@job
@environment
@click.option(
    "--calendar",
    callback=_systemd_calendar,
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
    job = JOBS[pipeline]
    program, *arguments = _command(project, pipeline, env)
    service = render(
        "job.service",
        title=job.title,
        project=str(project.project_path).replace("%", "%%"),
        # The colon, which systemd takes within the quotes, leaves every $ as it is.
        command=" ".join([f'":{program}"'.replace("%", "%%"), *arguments]),
        locked=str(Outcome.LOCKED.exit_code),
    )
    timer = render("job.timer", title=job.title, calendar=calendar or job.systemd)
    units = {f"mnist-vae-{pipeline}.service": service, f"mnist-vae-{pipeline}.timer": timer}
    _verify(units)
    for name, text in units.items():
        _write(folder / name, text)


@schedule.command(cls=failures.Command)
@job
@environment
@calendar_of_cron
@click.pass_obj
def cron(project: ProjectMetadata, pipeline: str, env: str, calendar: str | None) -> None:
    """Print a line for your crontab."""
    job = JOBS[pipeline]
    command = shlex.join(_command(project, pipeline, env))
    line = render(
        "crontab",
        title=job.title,
        calendar=calendar or job.cron,
        # A bare % is a line's end to cron.
        command=f"cd {shlex.quote(str(project.project_path))} && {command}".replace("%", r"\%"),
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
    job = JOBS[pipeline]
    dag = render(
        "airflow_dag.py.template",
        title=job.title,
        pipeline=pipeline,
        project=_literal(str(project.project_path)),
        command=_literal(shlex.join(_command(project, pipeline, env))),
        calendar=_literal(calendar or job.cron),
        locked=str(Outcome.LOCKED.exit_code),
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
        arguments=_literal(_arguments(pipeline, env)),
        calendar=_literal(calendar or JOBS[pipeline].cron),
    )
    click.echo(manifest, nl=False)


def _command(project: ProjectMetadata, pipeline: str, env: str) -> list[str]:
    """Return the one command that every scheduler runs.

    Raises:
        click.ClickException: Its path, or that of the project, is not safe in a scheduler's file.
    """
    kedro = str(Path(sys.executable).with_name("kedro"))
    for path in (kedro, str(project.project_path)):
        if _UNSAFE.search(path):
            raise click.ClickException(
                "A path cannot be scheduled: expected no quote, backslash, brace or control "
                f"character, no white space at its end, and UTF-8, received {path!r}; move the "
                "project or its environment."
            )
    return [kedro, *_arguments(pipeline, env)]


def _arguments(pipeline: str, env: str) -> list[str]:
    return [JOBS[pipeline].command, "--env", env]


def _verify(units: dict[str, str]) -> None:
    """Have systemd look at the units, where it is installed.

    Args:
        units: Their texts, by the names of their files.

    Raises:
        click.ClickException: It would not start them.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in units]
        for path, text in zip(paths, units.values(), strict=True):
            path.write_text(text, encoding="utf-8")
        finished = _analyzed("--user", "verify", *map(str, paths), XDG_RUNTIME_DIR=folder)
    lines = (finished.stdout + finished.stderr).replace(f"{folder}/", "").splitlines()
    problems = [line for line in lines if line.startswith(tuple(units))]  # not of other units
    if finished.returncode and problems:
        raise click.ClickException(
            "systemd would not start the units: expected `systemd-analyze verify` to find nothing "
            f"wrong, received {'; '.join(problems)}; nothing was written."
        )


def _analyzed(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Return what `systemd-analyze` says; where it is not installed, nothing is wrong."""
    command = [shutil.which("systemd-analyze") or "true", *arguments]
    return subprocess.run(  # noqa: S603 - the system's own program
        command,
        env={**os.environ, **variables},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def _literal(value: str | list[str]) -> str:
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
