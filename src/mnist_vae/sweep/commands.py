"""The command `kedro sweep`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from pathlib import Path
from typing import Any

import click
from filelock import FileLock, Timeout
from kedro.framework.cli.project import run as kedro_run

from mnist_vae import failures
from mnist_vae.data.fingerprints import json_fingerprint


@click.command(
    cls=failures.Command,
    params=[each for each in kedro_run.params if each.name in ("env", "params")],
)
@click.option(
    "--over",
    "texts",
    multiple=True,
    metavar="NAME=VALUE,...",
    help="Values of a parameter, combined with those of others; for --search also LOW..HIGH[:log].",
)
@click.option("--seeds", metavar="SEED,...", help="Each setting is run with each of them.")
@click.option(
    "--search", "trials", type=click.IntRange(1), metavar="N", help="Have Optuna choose N settings."
)
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count, help="Members at a time.")
@click.option("--name", default="sweep", show_default=True, help="Its folder: data/sweeps/NAME.")
@click.pass_obj
def sweep(
    project: Any,
    texts: tuple[str, ...],
    seeds: str | None,
    trials: int | None,
    jobs: int,
    name: str,
    env: str | None,
    params: dict[str, Any],
) -> None:
    """Train many models, over parameters and seeds, and compare them in one table.

    Each member is a `kedro run` of its own, and each setting is compared with the base, which
    changes nothing. The same command resumes a sweep that was interrupted.
    """
    if importlib.util.find_spec("optuna") is None:
        raise click.ClickException(
            "Optuna is not installed: expected the extra `sweep`, received no module optuna; run "
            "`pip install -c constraints.txt -e '.[sweep]'`."
        )
    import optuna
    import pandas as pd

    from mnist_vae.sweep.members import Sweep
    from mnist_vae.sweep.study import grid_of, plot, run_study, space_of, values_of
    from mnist_vae.sweep.table import compared, to_text

    space = space_of(texts, search=trials is not None)
    members = Sweep(project.project_path, name, env or os.environ.get("KEDRO_ENV"), params, jobs)
    numbers = list(dict.fromkeys(values_of(seeds or str(members.base["seed"]))))
    for changes in [{"seed": seed} for seed in numbers] + grid_of(space):
        members.parameters(changes)
    members.folder.mkdir(parents=True, exist_ok=True)
    with _lock(members.folder / "sweep.lock"), contextlib.closing(members):

        def start(setting: dict[str, Any]) -> list[Any]:
            return [members.start(setting, seed) for seed in numbers]

        start({})
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            storage=f"sqlite:///{members.folder}/study.db",
            study_name=json_fingerprint([members.identity, str(space), numbers, bool(trials)]),
            load_if_exists=True,
        )
        run_study(study, space, start, trials, jobs)
        results = pd.DataFrame([future.result() for future in members.futures.values()])
        table = compared(results)
        results.to_csv(members.folder / "members.csv", index=False)
        table.to_csv(members.folder / "table.csv")
        if space:
            plot(study, members.folder / "plots.html")
    click.echo(f"{to_text(table)}\n\nTable, members and plots are in {members.folder}.")
    if table["failed"].any():
        raise click.exceptions.Exit(1)


def _lock(path: Path) -> contextlib.AbstractContextManager[Any]:
    """Return the lock of the folder, taken.

    Raises:
        click.ClickException: Another sweep has it.
    """
    try:
        return FileLock(path).acquire(timeout=0)
    except Timeout as error:
        raise click.ClickException(
            "Another sweep works in this folder: expected none, received its lock "
            f"{path}; wait for it, or name another folder with --name."
        ) from error
