"""`kedro sweep`: models over parameters and seeds, each a `kedro run`, compared in one table."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
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
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import settings
from omegaconf import OmegaConf

from mnist_vae import config, failures
from mnist_vae.data.disk import write_json
from mnist_vae.data.origin import json_fingerprint, result_fingerprints
from mnist_vae.jobs.names import one_line

if TYPE_CHECKING:
    import pandas as pd

BASE = "base"  # the name of the setting that changes nothing
LOSS = "validation_negative_elbo"  # nats an image, by which settings are ranked
_TERMS = ("negative_elbo", "reconstruction", "kl")
FIGURES = [f"{split}_{term}" for split in ("validation", "test") for term in _TERMS]
_LEVEL = 0.05
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
            "Optuna is not installed: run `pip install -c constraints.txt -e '.[sweep]'`."
        ) from error
    import pandas as pd

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = space_of(texts, search=trials is not None)
    members = Members(project.project_path, name, env, params, jobs)
    numbers = list(dict.fromkeys(values_of(seeds or str(members.parameters({})["seed"]))))
    for changes in [{"seed": seed} for seed in numbers] + grid_of(space):
        members.parameters(changes)

    with contextlib.closing(members):
        for seed in numbers:
            members.start({}, seed)
        study = run_study(space, lambda s: [members.start(s, n) for n in numbers], trials, jobs)
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
                kind = IntDistribution if type(low) is type(high) is int else FloatDistribution
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
        self._env = config.check_environment(self._conf, env)
        data = config.data_folder(self._conf, self._env, params)
        self._raw, self.folder = data / "01_raw", data / "sweeps" / name
        self.futures: dict[str, Future[dict[str, Any]]] = {}
        self._pool = ThreadPoolExecutor(jobs, initializer=_pin, initargs=(itertools.count(),))
        self._stop = threading.Event()

    def parameters(self, setting: dict[str, Any]) -> dict[str, Any]:
        """Return all parameters of a setting (texts as in `--params`), after they are checked."""
        loader = config.loader_of(self._conf, self._env, self._given(setting))
        return config.check_configuration(loader).model_dump(mode="json")

    def _given(self, setting: dict[str, Any]) -> Any:
        changes = OmegaConf.from_dotlist([f"{name}={text}" for name, text in setting.items()])
        return OmegaConf.to_container(OmegaConf.merge(self._params, changes))

    def start(self, setting: dict[str, Any], seed: int) -> Future[dict[str, Any]]:
        """Return the result to come of a member: its setting, seed, folder, failure and figures."""
        name = ",".join(f"{key}={text}" for key, text in setting.items()) or BASE
        setting = setting | {"seed": seed}
        digest = json_fingerprint([self.parameters(setting), result_fingerprints()])[:8]
        if digest not in self.futures:
            slug = re.sub(r"[^\w.-]+", "_", name)[:60]  # Arrow takes `=` for a partition
            folder = self.folder / "members" / f"{slug}-{digest}-seed_{seed}"
            given = {**self._given(setting), config.DATA_FOLDER: str(folder / "data")}
            self.futures[digest] = self._pool.submit(self._member, folder, given, name)
        return self.futures[digest]

    def close(self) -> None:
        """Interrupt the members that are under way, as Ctrl-C does, and wait for their ends."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def _member(self, folder: Path, given: Any, setting: str) -> dict[str, Any]:
        path = folder / "result.json"
        result: dict[str, Any] = {"setting": setting, "seed": given["seed"], "folder": str(folder)}
        note = ""
        if path.exists():
            result, note = json.loads(path.read_bytes()), " (an earlier run)"
        elif failure := self._run(folder, given):
            result["failure"] = failure
        else:
            metrics = json.loads((folder / "data/08_reporting/metrics.json").read_bytes())
            for figure in FIGURES:
                split, _, term = figure.partition("_")
                result[figure] = metrics["splits"][split][term]
            write_json(path, result)
        if not self._stop.is_set():
            outcome = result.get("failure") or f"validation −ELBO {result[LOSS]:.2f}"
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
        if process.returncode <= 0:
            return f"killed by signal {-process.returncode}" if process.returncode else None
        last = log.read_text(encoding="utf-8", errors="replace").rstrip().rpartition("\n")[2]
        return one_line(last.removeprefix("Error: ") or "it ended without a word")


def _pin(threads: itertools.count[int]) -> None:
    """Keep this thread, and so the processes that it starts, on one core."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[next(threads) % len(cores)]})


def compared(results: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each setting from a row for each member: the base, then by loss.

    It has the means of all figures over the seeds, `standard_error` of the validation loss,
    `difference` from the base's loss, seed by seed in the mean, its `difference_standard_error` and
    `p_value`, the number of `seeds` done and of those `failed`, and the first `failure`.
    """
    results = results.reindex(columns=["setting", "seed", "failure", *FIGURES])
    groups = results.astype(dict.fromkeys(FIGURES, float)).groupby("setting")
    table = groups[FIGURES].mean()
    table.insert(0, "seeds", groups[LOSS].count())
    table["standard_error"] = groups[LOSS].sem()
    losses = results.pivot(index="seed", columns="setting", values=LOSS)
    differences = losses.sub(losses[BASE], axis=0).drop(columns=BASE)
    table["difference"] = differences.mean()
    table["difference_standard_error"] = differences.sem()
    table["p_value"] = p_values(differences)
    table["failed"] = groups["failure"].count()
    table["failure"] = groups["failure"].first()
    return table.loc[[BASE, *table.sort_values(LOSS).index.drop(BASE)]]


def p_values(differences: pd.DataFrame) -> pd.Series:
    """Return of each column the p-value of its mean, by Student's t, corrected by Holm (1979)."""
    import pandas as pd
    from scipy.stats import t

    n = differences.count()
    several = n.index[n > 1]
    statistic = (differences.mean() / differences.sem()).abs().fillna(0.0)  # equal in every seed
    p = pd.Series(2 * t.sf(statistic[several], n[several] - 1), several).sort_values()
    return (p * list(range(len(p), 0, -1))).cummax().clip(upper=1.0)


def to_text(table: pd.DataFrame) -> str:
    """Return the table as a terminal shows it, with what it means under it."""
    rows = [["Setting", "Seeds", "Validation −ELBO", "Less the base", "Test −ELBO", "Failed"]]
    for setting, row in table.iterrows():
        difference = _shown(row["difference"], row["difference_standard_error"], "+")
        star = " *" if row["p_value"] < _LEVEL else ""
        loss, test = _shown(row[LOSS], row["standard_error"]), _shown(row["test_negative_elbo"])
        failure = f"{row['failed']}: {row['failure']}" if row["failed"] else ""
        rows.append([str(setting), f"{row['seeds']:.0f}", loss, difference + star, test, failure])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    note = "Nats an image, mean over the seeds ± standard error. Choose by validation, report test."
    stars = f"* p < {_LEVEL:g} by Student's t over two seeds or more, corrected by Holm."
    return "\n".join([*lines, "", note, stars])


def _shown(value: float, error: float = math.nan, sign: str = "") -> str:
    shown = f"{value:{sign}.2f} ± {error:.2f}".removesuffix(" ± nan").replace("-", "−")
    return "" if math.isnan(value) else shown
