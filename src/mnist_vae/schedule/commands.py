"""The commands of `kedro schedule`, which write what runs a job on a schedule."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from mnist_vae import config, failures
from mnist_vae.config import check_parameters
from mnist_vae.jobs.records import Outcome

if TYPE_CHECKING:
    from kedro.framework.startup import ProjectMetadata


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Scheduled(NamedTuple):
    """A job as schedulers see it."""

    command: str
    title: str
    systemd: str  # when, as systemd.time(7) has it
    cron: str


JOBS = {
    "retraining": Scheduled("retrain", "Retraining of the VAE", "Sun 03:00", "0 3 * * 0"),
    "scoring": Scheduled("score", "Embedding of new batches by the VAE", "hourly", "0 * * * *"),
}

# Schedulers read quotes, backslashes and braces differently, and take no control characters.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\"'\\{}]|\s\Z")
_SHORT = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly")  # that all of them know
_ITEM = r"(\*|\w+(-\w+)?)(/[1-9]\d?)?"
_FIELD = re.compile(rf"{_ITEM}(,{_ITEM})*", re.ASCII)
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))  # minute, hour, day, month, weekday
_UNITS = {"y": 365 * 86400, "w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}


def _environment(context: click.Context, _: click.Parameter, env: str) -> str | None:
    return config.check_environment(str(context.obj.project_path / "conf"), env)


def _cron(_: click.Context, __: click.Parameter, calendar: str | None) -> str | None:
    fields = re.split(" +", calendar or "")
    five = len(fields) == len(_RANGES) and all(map(_is_field, fields, _RANGES))
    if calendar is None or calendar in _SHORT or five:
        return calendar
    raise click.BadParameter(
        "it is no calendar: expected minute, hour, day, month and weekday as cron has them, such "
        f"as `0 3 * * 0`, or one of {', '.join(_SHORT)}, received {calendar!r}; correct it."
    )


def _is_field(text: str, ends: tuple[int, int]) -> bool:
    numbers = map(int, re.findall(r"(?<![/\w])\d+", text))
    return bool(_FIELD.fullmatch(text)) and all(ends[0] <= n <= ends[1] for n in numbers)


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


def _folder(variable: str, home: str, inner: str) -> Decorator:
    return click.option(
        "--folder",
        type=click.Path(file_okay=False, path_type=Path),
        default=lambda: Path(os.environ.get(variable) or home, inner),
        show_default=f"{home}/{inner}",
        help="Where the files go.",
    )


@click.group()
def schedule() -> None:
    """Write what a scheduler needs to run a job, with the paths of this project."""


_env = click.option(
    "--env", default="prod", show_default=True, callback=_environment, help="Kedro's environment."
)


def _scheduler(*options: Any, when: str, callback: Any = None) -> Decorator:
    choice = click.Choice(list(JOBS))
    job = click.option("--job", type=choice, default="retraining", show_default=True, help="Which.")
    calendar = click.option("--calendar", callback=callback, help=f"When, as {when}.")

    def decorate(function: Any) -> click.Command:
        for option in reversed((job, _env, calendar, *options)):
            function = option(function)
        return schedule.command(cls=failures.Command)(click.pass_obj(function))

    return decorate


@_scheduler(
    _folder("XDG_CONFIG_HOME", "~/.config", "systemd/user"),
    when="systemd.time(7) has it; `Sun 03:00`, and `hourly` for scoring",
)
def systemd(
    project: ProjectMetadata, job: str, env: str, calendar: str | None, folder: Path
) -> None:
    """Write a service and its timer, as units of your user."""
    calendar = JOBS[job].systemd if calendar is None else calendar
    program, *arguments = _command(project, job, env, calendar)
    values = {
        "title": JOBS[job].title,
        "calendar": calendar,
        "project": str(project.project_path).replace("%", "%%"),
        # The colon, which systemd takes within the quotes, leaves every $ as it is.
        "command": " ".join([f'":{program}"'.replace("%", "%%"), *arguments]),
        "locked": Outcome.LOCKED.exit_code,
    }
    kinds = ("service", "timer")
    units = {f"mnist-vae-{job}.{kind}": _render(f"job.{kind}", values) for kind in kinds}
    _verify(units)
    for name, text in units.items():
        _write(folder / name, text)


_CRON = "cron has it; `0 3 * * 0`, and `0 * * * *` for scoring"


@_scheduler(when=_CRON, callback=_cron)
def cron(project: ProjectMetadata, job: str, env: str, calendar: str | None) -> None:
    """Print a line for your crontab."""
    command = shlex.join(_command(project, job, env))
    line = f"cd {shlex.quote(str(project.project_path))} && {command}"
    click.echo(f"# {JOBS[job].title}")
    click.echo(f"{calendar or JOBS[job].cron} " + line.replace("%", r"\%"))  # else a line's end


@_scheduler(_folder("AIRFLOW_HOME", "~/airflow", "dags"), when=_CRON, callback=_cron)
def airflow(
    project: ProjectMetadata, job: str, env: str, calendar: str | None, folder: Path
) -> None:
    """Write a DAG for Apache Airflow 3."""
    values = {
        "title": JOBS[job].title,
        "job": job,
        "project": _literal(str(project.project_path)),
        "command": _literal(shlex.join(_command(project, job, env))),
        "calendar": _literal(calendar or JOBS[job].cron),
        "locked": Outcome.LOCKED.exit_code,
    }
    _write(folder / f"mnist_vae_{job}.py", _render("airflow_dag.py.template", values))


@_scheduler(
    click.option("--image", required=True, help="The image built from the Dockerfile."),
    when=_CRON,
    callback=_cron,
)
def kubernetes(_: ProjectMetadata, job: str, env: str, calendar: str | None, image: str) -> None:
    """Print a CronJob and the claim of its data, for `kubectl apply -f -`."""
    values = {
        "job": job,
        "image": _literal(image),
        "arguments": _literal([JOBS[job].command, "--env", env]),
        "calendar": _literal(calendar or JOBS[job].cron),
    }
    click.echo(_render("cronjob.yaml", values), nl=False)


def _turn(option: str, job: str, default: str) -> Decorator:
    return click.option(
        option,
        callback=_interval,
        default=default,
        show_default=True,
        help=f"Time between two runs of the {job}, such as 7d or 1d12h, or `never`.",
    )


@schedule.command(cls=failures.Command)
@_env
@_turn("--turn", "retraining", "7d")
@_turn("--scoring-turn", "scoring", "1h")
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
    loader = config.loader_of(str(project.project_path / "conf"), env)
    name = check_parameters(loader["parameters"]).monitoring.project
    click.echo(_render("alerts.yml", {"project": name, "disk_free": disk_free}), nl=False)
    for job, (given, seconds) in {"retraining": turn, "scoring": scoring_turn}.items():
        values = {"project": name, "job": job, "turn": given, "seconds": seconds}
        if seconds:
            values["grace"] = f"{min(seconds, _UNITS['h'])}s"
            click.echo(_render("alerts_job.yml", values), nl=False)


def _command(project: ProjectMetadata, job: str, env: str, *words: str) -> list[str]:
    """Return the one command that every scheduler runs."""
    kedro = str(Path(sys.executable).with_name("kedro"))
    for text in (kedro, str(project.project_path), *words):
        if _UNSAFE.search(text):
            raise click.ClickException(
                "This cannot be scheduled: expected no quote, backslash, brace or control "
                f"character, no white space at its end, and UTF-8, received {text!r}; move the "
                "project or its environment, or correct --calendar."
            )
    return [kedro, JOBS[job].command, "--env", env]


def _verify(units: dict[str, str]) -> None:
    """Refuse units, texts by the names of their files, that systemd would not start."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in units.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        paths = [f"{folder}/{name}" for name in units]
        finished = _analyzed("--user", "verify", *paths, XDG_RUNTIME_DIR=folder)
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


def _render(template: str, values: dict[str, Any]) -> str:
    text = files("mnist_vae").joinpath("schedule", template).read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _write(path: Path, text: str) -> None:
    path = path.expanduser().resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    click.echo(f"Wrote {path}")
