"""The commands of `kedro schedule`, which write what runs the retraining on a schedule."""

from __future__ import annotations

import json
import os
import shlex
import sys
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import click

from mnist_vae.params import ExitCodesParams, ParameterError, Parameters, check_parameters

if TYPE_CHECKING:
    from kedro.framework.startup import ProjectMetadata

RETRAINING = ("run", "--pipelines", "retraining", "--env")
UNIT = "mnist-vae-retraining"


@click.group()
def schedule() -> None:
    """Write what a scheduler needs to run the retraining, with the paths of this project."""


def _existing(context: click.Context, _: click.Parameter, env: str) -> str:
    """Refuse an environment that is not there: else the first run would, at night."""
    conf = context.obj.project_path / "conf"
    environments = sorted(path.name for path in conf.iterdir() if path.is_dir())
    if env not in environments:
        raise click.BadParameter(
            f"there is no such environment: expected one of {', '.join(environments)}, received "
            f"{env}; name a folder of {conf}."
        )
    return env


environment = click.option(
    "--env", default="prod", show_default=True, callback=_existing, help="Kedro's environment."
)
cron_calendar = click.option(
    "--calendar",
    default="0 3 * * 0",
    show_default=True,
    help="When: minute, hour, day, month and weekday, as cron has them.",
)


@schedule.command()
@environment
@click.option(
    "--calendar", default="Sun 03:00", show_default=True, help="When, as systemd.time(7) has it."
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config", "systemd/user"),
    show_default="~/.config/systemd/user",
    help="Where the units go.",
)
@click.pass_obj
def systemd(project: ProjectMetadata, env: str, calendar: str, folder: Path) -> None:
    """Write a service and its timer, as units of your user."""
    codes = _exit_codes(project, env)
    service = _render(
        "retraining.service",
        project=str(project.project_path).replace("%", "%%"),
        # The colon, which systemd takes within the quotes, leaves every $ as it is.
        command=" ".join(_quoted_for_systemd(word) for word in _command(env, prefix=":")),
        locked=str(codes.locked),
    )
    _write(folder / f"{UNIT}.service", service)
    _write(folder / f"{UNIT}.timer", _render("retraining.timer", calendar=calendar))


@schedule.command()
@environment
@cron_calendar
@click.pass_obj
def cron(project: ProjectMetadata, env: str, calendar: str) -> None:
    """Print a line for your crontab."""
    command = f"cd {shlex.quote(str(project.project_path))} && {shlex.join(_command(env))}"
    # A bare % is a line's end to cron.
    click.echo(_render("crontab", calendar=calendar, command=command.replace("%", r"\%")), nl=False)


@schedule.command()
@environment
@cron_calendar
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: Path(os.environ.get("AIRFLOW_HOME") or "~/airflow", "dags"),
    show_default="$AIRFLOW_HOME/dags",
    help="Airflow's folder of DAGs.",
)
@click.pass_obj
def airflow(project: ProjectMetadata, env: str, calendar: str, folder: Path) -> None:
    """Write a DAG for Apache Airflow 3."""
    codes = _exit_codes(project, env)
    dag = _render(
        "airflow_dag.py.template",
        project=_literal(str(project.project_path)),
        command=_literal(_command(env)),
        calendar=_literal(calendar),
        nothing_new=str(codes.nothing_new or _free_code(codes)),
        final=_literal(sorted({codes.bad_data, codes.stalled} - {0})),
    )
    _write(folder / "mnist_vae_retraining.py", dag)


@schedule.command()
@environment
@cron_calendar
@click.option("--image", required=True, help="The image built from the Dockerfile.")
def kubernetes(env: str, calendar: str, image: str) -> None:
    """Print a CronJob and the claim of its data, for `kubectl apply -f -`."""
    manifest = _render(
        "cronjob.yaml",
        image=_literal(image),
        arguments=_literal([*RETRAINING, env]),
        calendar=_literal(calendar),
    )
    click.echo(manifest, nl=False)


def _exit_codes(project: ProjectMetadata, env: str) -> ExitCodesParams:
    """Return the exit codes of the job in this environment."""
    return parameters_of(project, env).retraining.exit_codes


def parameters_of(project: ProjectMetadata, env: str) -> Parameters:
    """Return the parameters of this environment.

    Raises:
        click.ClickException: They are wrong.
    """
    from kedro.config import OmegaConfigLoader

    from mnist_vae.settings import CONFIG_LOADER_ARGS

    arguments: dict[str, Any] = {**CONFIG_LOADER_ARGS, "env": env}
    loader = OmegaConfigLoader(str(project.project_path / "conf"), **arguments)
    try:
        return check_parameters(loader["parameters"])
    except ParameterError as error:
        raise click.ClickException(str(error)) from error


def _free_code(codes: ExitCodesParams) -> int:
    """Return an exit code that no outcome has."""
    taken = set(codes.model_dump().values())
    return next(code for code in range(99, 0, -1) if code not in taken)


def _command(env: str, prefix: str = "") -> list[str]:
    """Return the one command that every scheduler runs."""
    return [f"{prefix}{Path(sys.executable).with_name('kedro')}", *RETRAINING, env]


def _quoted_for_systemd(word: str) -> str:
    """Return `word` with its spaces and % safe; quotes and backslashes systemd refuses in paths."""
    word = word.replace("%", "%%")
    return f'"{word}"' if " " in word else word


def _literal(value: str | list[str] | list[int]) -> str:
    """Return `value` as a literal that YAML and Python share."""
    return json.dumps(value, ensure_ascii=False)


def _render(template: str, **values: str) -> str:
    text = files("mnist_vae").joinpath("schedule", template).read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _write(path: Path, text: str) -> None:
    path = path.expanduser().resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    click.echo(f"Wrote {path}")
