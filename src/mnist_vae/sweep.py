"""`kedro sweep`: models over parameters and seeds, each a `kedro run`, compared in one table."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from statistics import fmean
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import settings
from omegaconf import OmegaConf

from mnist_vae import failures
from mnist_vae.config import DATA_FOLDER, check_configuration, check_environment, loader_of
from mnist_vae.data.disk import write_json
from mnist_vae.data.origin import json_fingerprint, result_fingerprints
from mnist_vae.jobs.names import one_line
from mnist_vae.sweep_table import BASE, FIGURES, LOSS, compared, to_text

_RANGE = re.compile(r"([^,\[]+?)\.\.([^,\[]+?)(:log)?")
# They decide on which images, or in which term, the loss is measured; or a sweep sets them.
_REFUSED = ("data_folder", "model.reconstruction", "seed", "source", "split", "streaming")


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
    # All imports before a member runs: a Ctrl-C in the middle of one ends it as another error.
    try:
        import optuna
    except ImportError as error:
        raise click.ClickException(
            "Optuna is not installed: expected the extra `sweep`, received no module optuna; run "
            "`pip install -c constraints.txt -e '.[sweep]'`."
        ) from error
    import pandas as pd

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = space_of(texts, search=trials is not None)
    members = Members(project.project_path, name, env, params, jobs)
    numbers = list(dict.fromkeys(values_of(seeds or str(members.base["seed"]))))
    for changes in [{"seed": seed} for seed in numbers] + grid_of(space):
        members.parameters(changes)

    def start(setting: dict[str, Any]) -> list[Any]:
        return [members.start(setting, seed) for seed in numbers]

    with contextlib.closing(members):
        start({})
        study = run_study(space, start, trials, jobs)
        results = pd.DataFrame(results_of(members.futures.values()))
    table = compared(results)
    results.to_csv(members.folder / "members.csv", index=False)
    table.to_csv(members.folder / "table.csv")
    if space:
        plot(study, members.folder / "plots.html")
    click.echo(f"{to_text(table)}\n\nTable, members and plots are in {members.folder}.")
    if table["failed"].any():
        raise click.exceptions.Exit(1)


def values_of(text: str) -> Any:
    """Return values that are separated by commas, as YAML has them."""
    return OmegaConf.to_container(OmegaConf.create(f"[{text}]"))


def space_of(texts: Sequence[str], *, search: bool) -> dict[str, Any]:
    """Return Optuna's distributions for `NAME=VALUE,...` and, to search, `NAME=LOW..HIGH[:log]`.

    Raises:
        click.BadParameter: A text is neither, or names a parameter that is not to be swept over.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space: dict[str, Any] = {}
    for text in texts:
        name, _, values = text.partition("=")
        try:
            found = _RANGE.fullmatch(values)
            if name in space or name.startswith(_REFUSED) or (found and not search):
                raise ValueError(name)
            if found:
                low, high = values_of(f"{found[1]},{found[2]}")
                whole = isinstance(low, int) and isinstance(high, int)
                kind = IntDistribution if whole else FloatDistribution
                space[name] = kind(low, high, log=found[3] is not None)
            else:
                choices = [v if isinstance(v, str) else json.dumps(v) for v in values_of(values)]
                space[name] = CategoricalDistribution(choices)
        except Exception as error:  # of the YAML parser's, OmegaConf's or Optuna's own types
            raise click.BadParameter(
                "what to sweep over is not readable: expected NAME=VALUE,VALUE, or with --search "
                "NAME=LOW..HIGH[:log], each name once, and none that changes what is measured "
                f"({', '.join(_REFUSED)}), received {text}; correct --over."
            ) from error
    return space


def grid_of(space: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all combinations of values, and of the two ends of each range."""
    values = [getattr(each, "choices", None) or (each.low, each.high) for each in space.values()]
    return [dict(zip(space, each, strict=True)) for each in itertools.product(*values)]


def run_study(
    space: dict[str, Any],
    start: Callable[[dict[str, Any]], list[Future[dict[str, Any]]]],
    trials: int | None,
    at_a_time: int,
) -> Any:
    """Return Optuna's study of `trials` trials by TPE, or of all combinations if that is None.

    `start` starts the members of a setting. A search chooses `at_a_time` trials together.
    """
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    if trials is None:
        for params in grid_of(space):
            study.enqueue_trial(params)
        trials = at_a_time = len(study.trials)
    for first in range(0, trials, at_a_time):
        asked = [study.ask(space) for _ in range(min(at_a_time, trials - first))]
        texts = [
            {k: v if isinstance(v, str) else f"{v:.6g}" for k, v in trial.params.items()}
            for trial in asked
        ]
        for trial, members in zip(asked, [start(setting) for setting in texts], strict=True):
            results = results_of(members)
            if all(LOSS in result for result in results):
                study.tell(trial, fmean(result[LOSS] for result in results))
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return study


def results_of(members: Iterable[Future[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the results of members, in their order, when all have ended."""
    members = list(members)
    # Not in one wait: Ctrl-C does not end a wait that another thread had the signal of, or that
    # begins just then.
    while wait(members, timeout=0.5).not_done:
        pass
    return [member.result() for member in members]


def plot(study: Any, path: Path) -> None:
    """Write Optuna's own plots to one page, which needs no network."""
    from optuna import visualization

    page = '<!doctype html><meta charset="utf-8"><title>Validation −ELBO of a sweep</title>'
    for name in ("slice", "parallel_coordinate", "optimization_history"):
        figure = getattr(visualization, f"plot_{name}")(study, target_name="validation −ELBO")
        page += figure.to_html(full_html=False, include_plotlyjs=name == "slice")
    path.write_text(page, encoding="utf-8")


class Members:
    """Runs members, `jobs` at a time and each once; a project of Kedro must be configured."""

    def __init__(self, project: Path, name: str, env: str | None, params: Any, jobs: int) -> None:
        self._project, self._params = project, params
        self._conf = str(project / settings.CONF_SOURCE)
        self._env = check_environment(self._conf, env)
        data = loader_of(self._conf, self._env, self._given({}))["globals"]["data"]
        self._raw = project / str(data) / "01_raw"
        self.folder = project / str(data) / "sweeps" / name
        self.base = self.parameters({})
        self._identity = json_fingerprint([self.base, result_fingerprints()])
        self.futures: dict[Path, Future[dict[str, Any]]] = {}
        self._pool = ThreadPoolExecutor(jobs, initializer=_pin, initargs=(itertools.count(),))
        self._stop = threading.Event()

    def parameters(self, setting: dict[str, Any]) -> dict[str, Any]:
        """Return all parameters of a setting (texts as in `--params`), after they are checked."""
        loader = loader_of(self._conf, self._env, self._given(setting))
        return check_configuration(loader).model_dump(mode="json")

    def _given(self, setting: dict[str, Any]) -> Any:
        changes = OmegaConf.from_dotlist([f"{name}={text}" for name, text in setting.items()])
        return OmegaConf.to_container(OmegaConf.merge(self._params, changes))

    def start(self, setting: dict[str, Any], seed: int) -> Future[dict[str, Any]]:
        """Return the result to come of a member: its setting, seed, folder, failure and figures."""
        base, own = OmegaConf.create(self.base), OmegaConf.create(self._given(setting))
        changed = {
            key: text
            for key, text in setting.items()
            if OmegaConf.select(own, key) != OmegaConf.select(base, key)
        }
        name = ",".join(f"{key}={text}" for key, text in changed.items()) or BASE
        slug = re.sub(r"[^\w.-]+", "_", name)[:60]  # Arrow takes a folder with `=` for a partition
        digest = json_fingerprint([self._identity, changed])[:8]
        folder = self.folder / "members" / f"{slug}-{digest}-seed_{seed}"
        if folder not in self.futures:
            given = {**self._given(changed), "seed": seed, DATA_FOLDER: str(folder / "data")}
            self.futures[folder] = self._pool.submit(self._member, folder, given, name)
        return self.futures[folder]

    def close(self) -> None:
        """Interrupt the members that are under way, as Ctrl-C does, and wait for their ends."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def _member(self, folder: Path, given: Any, setting: str) -> dict[str, Any]:
        path = folder / "result.json"
        earlier = path.exists()
        if earlier:
            result: dict[str, Any] = json.loads(path.read_bytes())
        else:
            result = {"setting": setting, "seed": given["seed"], "folder": str(folder)}
            if failure := self._run(folder, given):
                result["failure"] = failure
            else:
                metrics = json.loads((folder / "data/08_reporting/metrics.json").read_bytes())
                splits = metrics["splits"]
                result |= {f"{split}_{term}": splits[split][term] for split, term in FIGURES}
                write_json(path, result)
        if not self._stop.is_set():
            outcome = result.get("failure") or f"validation −ELBO {result[LOSS]:.2f}"
            note = " (an earlier run)" if earlier else ""
            click.echo(f"{setting}, seed {given['seed']}: {outcome}{note}", err=True)
        return result

    def _run(self, folder: Path, given: Any) -> str | None:
        """Run a member to its end, and return what happened, if it failed."""
        data, log, options = folder / "data", folder / "run.log", folder / "run.yml"
        data.mkdir(parents=True, exist_ok=True)
        if not (data / "01_raw").is_symlink():
            (data / "01_raw").symlink_to(self._raw)
        run = {"env": self._env, "pipelines": "training", "params": given}
        OmegaConf.save(OmegaConf.create({"run": run}), options)
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "kedro", "run", "--config", str(options)],
                cwd=self._project,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the sweep passes Ctrl-C on
            )
        while process.poll() is None:
            if self._stop.wait(0.25):
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(15)  # until it has closed what it has open
                process.kill()
        if process.returncode < 0:
            return f"killed by signal {-process.returncode}"
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "it ended without a word")
        return one_line(last.removeprefix("Error: ")) if process.returncode else None


def _pin(threads: itertools.count[int]) -> None:
    """Keep this thread, and so the processes that it starts, on one core."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[next(threads) % len(cores)]})
