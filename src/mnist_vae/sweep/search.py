"""A search by Optuna, whose trials are settings of the sweep."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mnist_vae.sweep.grid import Axis, Choices, named
from mnist_vae.sweep.records import Setting, SweepError

JOURNAL = "study.log"
_SPACE = "space"
_DIGITS = 6

Score = Callable[[Sequence[Setting]], Sequence[float | None]]
"""Runs settings, and returns the validation −ELBO of each; None of one that failed."""


class Search:
    """A search that resumes: its trials are in a journal in the sweep's folder.

    Each trial is asked for with a seed of its own, so that an interrupted search ends with the
    trials of one that was not. As many are asked for at once as are run at a time.

    Args:
        folder: Of the sweep.
        axes: Where to search.
        seed: Of Optuna's sampler (TPE).

    Raises:
        SweepError: Optuna is not installed, or the folder has another search.
    """

    def __init__(self, folder: Path, axes: Sequence[Axis], seed: int) -> None:
        try:
            import optuna
        except ModuleNotFoundError as error:
            raise SweepError(
                "Optuna is not installed: expected it for --search, received no module "
                f"{error.name}; run `pip install -c constraints.txt -e '.[optuna]'`."
            ) from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        from optuna.storages.journal import JournalFileBackend

        backend = JournalFileBackend(str(folder / JOURNAL))
        self._optuna = optuna
        self._seed = seed
        self._distributions = {axis.key: _distribution(axis) for axis in axes}
        self._study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name=folder.name,
            load_if_exists=True,
        )
        space = json.dumps({"axes": [repr(axis) for axis in axes], "seed": seed})
        found = self._study.user_attrs.get(_SPACE, space)
        if found != space:
            raise SweepError(
                f"The folder {folder} has another search: expected the ranges and the seed "
                f"{found}, received {space}; name a new one with --name."
            )
        self._study.set_user_attr(_SPACE, space)

    def run(self, trials: int, at_a_time: int, score: Score) -> list[Setting]:
        """Run trials until there are so many, and return the settings of all, in their order."""
        self._drop_torn()
        while True:
            asked = self._asked()
            unfinished = [trial.number for trial in asked if not trial.state.is_finished()]
            finished = len(asked) - len(unfinished)
            end_of_round = min(trials, (finished // at_a_time + 1) * at_a_time)
            unfinished += [self._ask() for _ in range(end_of_round - len(asked))]
            if not unfinished:
                return named([_decoded(trial.params) for trial in asked[:trials]])
            self._finish(unfinished, score)

    def _asked(self) -> list[Any]:
        """Return the trials whose parameters are known."""
        return [t for t in self._study.trials if len(t.params) == len(self._distributions)]

    def _ask(self) -> int:
        """Ask for a trial, with a seed that its number decides, and return that."""
        number = len(self._study.trials)
        self._study.sampler = self._optuna.samplers.TPESampler(seed=self._seed + number)
        return int(self._study.ask(self._distributions).number)

    def _finish(self, numbers: list[int], score: Score) -> None:
        settings = named([_decoded(self._study.trials[number].params) for number in numbers])
        for number, value in zip(numbers, score(settings), strict=True):
            if value is None:
                self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(number, value)

    def _drop_torn(self) -> None:
        """Fail the trials that were being asked for when the search was killed."""
        for trial in self._study.trials:
            if not trial.state.is_finished() and len(trial.params) < len(self._distributions):
                self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)


def corners(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Return settings with both ends of each range and all values of the others, one at a time."""
    return [
        {axis.key: value}
        for axis in axes
        for value in (axis.values if isinstance(axis, Choices) else (axis.low, axis.high))
    ]


def _distribution(axis: Axis) -> Any:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(axis, Choices):
        return CategoricalDistribution([json.dumps(value) for value in axis.values])
    if isinstance(axis.low, int) and isinstance(axis.high, int):
        return IntDistribution(axis.low, axis.high, log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _decoded(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a trial, floats to as many digits as a person writes."""

    def decoded(value: Any) -> Any:
        if isinstance(value, str):
            return json.loads(value)
        return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value

    return {key: decoded(value) for key, value in params.items()}
