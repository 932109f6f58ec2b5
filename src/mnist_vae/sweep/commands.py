"""The command `kedro sweep`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
from kedro.framework.cli.utils import _split_params, split_string

from mnist_vae import failures
from mnist_vae.sweep import grid

if TYPE_CHECKING:
    from kedro.framework.startup import ProjectMetadata

    from mnist_vae.sweep.plan import Planner
    from mnist_vae.sweep.records import RunResult, Setting
    from mnist_vae.sweep.workers import Workers

T = TypeVar("T")
_FAILED, _INTERRUPTED = 1, 130


class _SweepCommand(click.Command):
    """A command that ends in one sentence, whatever it ends with."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with failures.said_once(), _ends_as_by_ctrl_c(signal.SIGTERM):
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            words = "The sweep was interrupted, its runs are stopped; run the same command to "
            click.echo(f"Error: {words}resume.", err=True)
            raise click.exceptions.Exit(_INTERRUPTED) from None
        except Exception as error:
            raise click.ClickException(failures.sentence(error)) from error


def _parsed(parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a callback of click that parses one text or several."""
    from mnist_vae.sweep.records import SweepError

    def callback(_: click.Context, __: click.Parameter, value: Any) -> Any:
        try:
            if isinstance(value, tuple):
                return [parse(text) for text in value]
            return None if value is None else parse(value)
        except SweepError as error:
            raise click.ClickException(str(error)) from error

    return callback


@click.command(cls=_SweepCommand)
@click.option(
    "--over",
    "axes",
    multiple=True,
    metavar="KEY=VALUE,...",
    callback=_parsed(grid.axis_of),
    help="Values of a parameter, all combined with those of the others; or LOW..HIGH[:log] with "
    "--search.",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="KEY=VALUE,...",
    callback=_parsed(grid.variant_of),
    help="A setting of its own, beside the default and other variants.",
)
@click.option(
    "--seeds",
    metavar="SEED,...",
    callback=_parsed(grid.seeds_of),
    help="Each setting is run with each of them; the parameter `seed`, if none are given.",
)
@click.option("--env", "-e", help="Kedro's environment of the runs.")
@click.option(
    "--pipelines",
    default="training",
    show_default=True,
    callback=split_string,
    help="Pipelines of the runs; they must train a model.",
)
@click.option(
    "--params",
    type=click.UNPROCESSED,
    default="",
    metavar="KEY=VALUE,...",
    callback=_split_params,
    help="Parameters of all runs, as `kedro run` has them.",
)
@click.option(
    "--name",
    default="sweep",
    show_default=True,
    help="Of the sweep: its folder is data/sweeps/NAME.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Runs at a time. One has all cores, each of several has one.",
)
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Of a scheduler of Dask, whose workers run them; `local` starts a cluster of --workers.",
)
@click.option(
    "--search",
    "trials",
    type=click.IntRange(min=1),
    metavar="TRIALS",
    help="Search with Optuna instead of running all combinations, beside the default.",
)
@click.pass_obj
def sweep(
    project: ProjectMetadata,
    axes: list[grid.Axis],
    variants: list[dict[str, Any]],
    seeds: tuple[int, ...] | None,
    env: str | None,
    pipelines: list[str],
    params: dict[str, Any],
    name: str,
    workers: int,
    dask: str | None,
    trials: int | None,
) -> None:
    """Train many models, over parameters and seeds, and compare them in one table.

    Each run is a `kedro run` of its own. The same command resumes a sweep that was interrupted:
    what has its result is not run again.
    """
    from mnist_vae.sweep.plan import Planner
    from mnist_vae.sweep.records import SweepError

    planner = Planner(
        project=Path(project.project_path),
        env=env or os.environ.get("KEDRO_ENV") or None,
        name=name,
        pipelines=tuple(pipelines),
        common=grid.flat(params),
    )
    _check_environment(planner)
    planner.check()
    seeds = seeds or (planner.default_seed(),)
    if trials is not None and variants:
        raise SweepError(
            "A search has no variants: expected --over with ranges or values, received --variant; "
            "leave it out."
        )
    # All of it is checked before the folder is made, or anything started.
    if trials is None:
        settings = grid.settings_of(axes, variants)
        planner.orders(settings, seeds)
    else:
        from mnist_vae.sweep.search import corners

        settings = grid.named([{}])
        planner.orders([*settings, *grid.named(corners(grid.search_space(axes)))], seeds)
    with _only_one(planner.folder), _workers(dask, workers) as at_work:
        _track(planner)
        run = partial(_run, planner, at_work, tuple(seeds))
        if trials is None:
            results = run(settings)
        else:
            settings, results = _search(planner, axes, seeds[0], trials, at_work.at_a_time, run)
        _report(planner, settings, results)
    if any(result.state == "failed" for result in results):
        raise click.exceptions.Exit(_FAILED)


def _check_environment(planner: Planner) -> None:
    """Refuse an environment that is not there.

    Raises:
        SweepError: It is not.
    """
    from mnist_vae import conf_source
    from mnist_vae.sweep.records import SweepError

    known = conf_source.environments(conf_source.located(None)) or []
    if planner.env is not None and planner.env.split("/")[0] not in known:
        raise SweepError(
            f"There is no environment `{planner.env}`: expected one of {', '.join(known)}, "
            f"received {planner.env}; correct --env."
        )


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the lock of the sweep's folder.

    Raises:
        SweepError: Another sweep works there.
    """
    from filelock import FileLock, Timeout

    from mnist_vae.sweep.records import SweepError

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "sweep.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise SweepError(
            f"Another sweep works in {folder}: expected none, received its lock; wait for it, or "
            "name another one with --name."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _workers(dask: str | None, at_a_time: int) -> Any:
    """Return a context of whoever runs the runs."""
    from mnist_vae.sweep.workers import LocalWorkers, dask_workers

    return nullcontext(LocalWorkers(at_a_time)) if dask is None else dask_workers(dask, at_a_time)


def _track(planner: Planner) -> None:
    """Have the runs tracked where the project's own are, if this environment tracks runs."""
    from mnist_vae.sweep.tracked import variables

    planner.variables.update(variables(planner.project, planner.env))


def _run(
    planner: Planner, workers: Workers, seeds: tuple[int, ...], settings: Sequence[Setting]
) -> list[RunResult]:
    """Run these settings, telling of each run as it ends."""
    orders = planner.orders(settings, seeds)
    ended = 0

    def tell(result: RunResult) -> None:
        nonlocal ended
        ended += 1
        words = "failed: " + (result.last_line or "")
        if result.figures is not None:
            loss = result.figures.splits["validation"]["negative_elbo"]
            words = f"validation −ELBO {loss:.2f}, {result.figures.training_seconds:.0f} s"
            words += " (an earlier run)" if result.earlier else ""
        told = f"{result.setting}, seed {result.seed}: {words}"
        click.echo(f"{ended} of {len(orders)}: {told}", err=True)

    return workers.run(orders, tell)


def _search(
    planner: Planner,
    axes: list[grid.Axis],
    seed: int,
    trials: int,
    at_a_time: int,
    run: Callable[[Sequence[Setting]], list[RunResult]],
) -> tuple[list[Setting], list[RunResult]]:
    """Search, and return the default and all trials, the best first, with their results."""
    from statistics import fmean

    from mnist_vae.params import ParameterError
    from mnist_vae.sweep.records import DEFAULT, RunResult
    from mnist_vae.sweep.search import Search

    search = Search(planner.folder, grid.search_space(axes), seed)
    default = grid.named([{}])
    results = {DEFAULT: run(default)}
    losses: dict[str, float | None] = {}

    def score(settings: Sequence[Setting]) -> list[float | None]:
        """Run the settings whose parameters go together."""
        possible = []
        for setting in settings:
            try:
                planner.checked({**planner.common, **setting.values})
                possible.append(setting)
            except ParameterError as error:
                results[setting.name] = [
                    RunResult(setting.name, seed, planner.folder, "failed", last_line=str(error))
                ]
        found = run(possible) if possible else []
        for setting in possible:
            of_setting = [result for result in found if result.setting == setting.name]
            results[setting.name] = of_setting
            done = [result.figures for result in of_setting if result.figures is not None]
            values = [figures.splits["validation"]["negative_elbo"] for figures in done]
            losses[setting.name] = fmean(values) if len(values) == len(of_setting) else None
        return [losses.get(setting.name) for setting in settings]

    asked = {setting.name: setting for setting in search.run(trials, at_a_time, score)}
    missing = [setting for name, setting in asked.items() if name not in results]
    score(missing)  # of trials that an earlier command ran: their results are there
    best_first = sorted(asked.values(), key=lambda each: losses.get(each.name) or float("inf"))
    settings = [*default, *best_first]
    return settings, [result for each in settings for result in results[each.name]]


def _report(planner: Planner, settings: list[Setting], results: list[RunResult]) -> None:
    """Write the table and the figure of the sweep, and show the table."""
    from mnist_vae.sweep import report

    click.echo(report.write(planner.folder, planner.name, settings, results))


@contextmanager
def _ends_as_by_ctrl_c(number: int) -> Iterator[None]:
    """Have this signal interrupt the sweep, so that its runs are stopped."""

    def interrupt(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.signal(number, before)
