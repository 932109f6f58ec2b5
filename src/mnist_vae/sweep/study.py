"""A grid or a search of Optuna, whose trials are the settings of a sweep."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from statistics import fmean
from typing import Any

import click
from omegaconf import OmegaConf

from mnist_vae.sweep.table import LOSS

_RANGE = re.compile(r"([^,\[]+?)\.\.([^,\[]+?)(:log)?")
# They decide on which images, or in which term, the loss is measured; or a sweep sets them.
_REFUSED = ("data_folder", "model.reconstruction", "seed", "source", "split", "streaming")


def values_of(text: str) -> Any:
    """Return values that are separated by commas, as YAML has them."""
    return OmegaConf.to_container(OmegaConf.create(f"[{text}]"))


def space_of(texts: Sequence[str], *, search: bool) -> dict[str, Any]:
    """Return Optuna's distributions for `NAME=VALUE,...` and, to search, `NAME=LOW..HIGH[:log]`.

    Choices are texts, since Optuna stores no lists.

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
    study: Any,
    space: dict[str, Any],
    start: Callable[[dict[str, Any]], list[Future[dict[str, Any]]]],
    trials: int | None,
    at_a_time: int,
) -> None:
    """Run so many trials of a search by TPE, some at a time, or else all combinations of values.

    A trial that was interrupted, or of which a member failed, stays a running one in the study,
    and is taken up by the next command. `start` starts the members of a setting.
    """
    from optuna import create_trial
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    if trials is None:
        grid = grid_of(space)
        trials = at_a_time = len(grid)
        for params in grid:
            if params not in [trial.params for trial in study.trials]:
                state = TrialState.RUNNING
                study.add_trial(create_trial(state=state, params=params, distributions=space))
    for first in range(0, trials, at_a_time):
        last = min(first + at_a_time, trials)
        while len(asked := [t for t in study.trials if len(t.params) == len(space)]) < last:
            study.sampler = TPESampler(seed=len(study.trials))  # another one each, as it resumes
            study.ask(space)
        for trial, members in [(each, start(_texts(each.params))) for each in asked[first:last]]:
            results = [member.result() for member in members]
            if not trial.state.is_finished() and all(LOSS in result for result in results):
                study.tell(trial.number, fmean(result[LOSS] for result in results))


def _texts(params: dict[str, Any]) -> dict[str, str]:
    return {k: v if isinstance(v, str) else f"{v:.6g}" for k, v in params.items()}


def plot(study: Any, path: Path) -> None:
    """Write Optuna's own plots to one page, which needs no network."""
    from optuna import visualization

    page = '<!doctype html><meta charset="utf-8"><title>Validation −ELBO of a sweep</title>'
    for name in ("slice", "parallel_coordinate", "optimization_history"):
        figure = getattr(visualization, f"plot_{name}")(study, target_name="validation −ELBO")
        page += figure.to_html(full_html=False, include_plotlyjs=name == "slice")
    path.write_text(page, encoding="utf-8")
