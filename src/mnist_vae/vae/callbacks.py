"""Keras callbacks of a training: an end when it diverges, a state to resume from, progress."""

from __future__ import annotations

import logging
import math
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

import keras
import numpy as np
from tqdm import tqdm

logger = logging.getLogger(__name__)

_LARGEST_KL = 1e6  # nats; the whole loss of an untrained network is some 550
_SECONDS_BETWEEN_LINES = 60


class TrainingFailedError(RuntimeError):
    """The loss is not finite, explodes or never improves."""


class StopOnDivergence(keras.callbacks.Callback):
    """Raise `TrainingFailedError` after an epoch with a loss that is NaN, infinite or explodes."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Check the means of the epoch."""
        logs = logs or {}
        for name, prefix in (("training", ""), ("validation", "val_")):
            loss, kl = logs[f"{prefix}loss"], logs[f"{prefix}kl"]
            if kl > _LARGEST_KL:
                problem = (
                    f"The KL term in {name} exploded with the encoder's z_log_var: it was {kl:.3g} "
                    f"nats an image in epoch {epoch + 1}, where a few dozen were expected"
                )
            elif not math.isfinite(loss):
                problem = (
                    f"The {name} loss became {loss} in epoch {epoch + 1}, where a finite number "
                    "was expected"
                )
            else:
                continue
            raise TrainingFailedError(
                f"{problem}; nothing was saved: try a tenth of `training.learning_rate` or a larger"
                " `training.batch_size`, and check that the pixels lie in [0, 1]."
            )


class BackupStore(Protocol):
    """Where `Backup` keeps the state of a training."""

    @property
    def interval(self) -> float:
        """Seconds between two saves, at least."""

    def load(self) -> dict[str, Any] | None:
        """Return what was saved last, or None."""

    def save(self, state: dict[str, Any]) -> None:
        """Keep `state`: NumPy arrays, and values that JSON can hold."""


@dataclass
class Past:
    """What a training did so far, in this process and in earlier ones."""

    epoch: int = 0
    """Epochs that are done."""
    stopped: bool = False
    """Whether early stopping ended it."""
    seconds: float = 0.0
    """How long the epochs took."""
    untrained: float = math.inf
    """Validation loss before the first epoch."""
    history: dict[str, list[float]] = field(default_factory=dict)
    """A list for each figure, a value an epoch."""


class Backup(keras.callbacks.Callback):
    """Keep the state of a training, so that one that was interrupted ends with the same bytes.

    A state is saved where the store's interval has passed, and by `flush`. Give it to `fit` after
    `early_stopping`, whose state it keeps too. `store` is None for nowhere.
    """

    def __init__(
        self, store: BackupStore | None, early_stopping: keras.callbacks.EarlyStopping
    ) -> None:
        super().__init__()
        self.past = Past()
        self._store, self._early_stopping = store, early_stopping
        self._best_weights: list[Any] | None = None
        self._unsaved: dict[str, Any] | None = None
        self._saved_at = self._clock = time.perf_counter()

    def restore(self, model: keras.Model) -> bool:
        """Take up the state in the store, and return whether there was one."""
        state = None if self._store is None else self._store.load()
        if state is None:
            return False
        for number, variable in enumerate(_variables(model)):
            variable.assign(state[f"variable_{number}"])
        self.past = Past(**{part.name: state[part.name] for part in fields(Past)})
        self._best_weights = [state[f"best_{number}"] for number in range(state["n_best"])]
        return True

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Start the clock, and give early stopping, which has just reset itself, its state back."""
        self._clock = time.perf_counter()
        if losses := self.past.history.get("val_loss"):
            stopping, best = self._early_stopping, int(np.argmin(losses))
            stopping.best, stopping.best_epoch = losses[best], best
            stopping.wait = len(losses) - 1 - best
            stopping.best_weights = self._best_weights

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add the epoch to the history, and save the state if that is due."""
        past, now = self.past, time.perf_counter()
        for name, value in (logs or {}).items():
            past.history.setdefault(name, []).append(float(value))
        past.epoch, past.stopped = epoch + 1, self.model.stop_training
        past.seconds += now - self._clock
        self._clock = now
        if self._store is not None:
            best = self._early_stopping.best_weights or []
            # Copies: an interruption in the next epoch saves the state of this one.
            self._unsaved = {
                **asdict(past),
                "n_best": len(best),
                **{f"best_{number}": np.asarray(weight) for number, weight in enumerate(best)},
                **{
                    f"variable_{number}": np.asarray(variable).copy()
                    for number, variable in enumerate(_variables(self.model))
                },
            }
            if now - self._saved_at >= self._store.interval:
                self.flush()

    def flush(self) -> None:
        """Save the state of the last whole epoch, unless it is saved."""
        state, self._unsaved = self._unsaved, None
        if self._store is not None and state is not None:
            self._store.save(state)
            self._saved_at = time.perf_counter()


def _variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


class Progress(keras.callbacks.Callback):
    """Show a training as one bar on a terminal, and elsewhere as some ten lines of the log.

    `n_images` is of an epoch; `first_epoch` is the number of epochs of an earlier process.
    """

    def __init__(self, n_images: int, epochs: int, first_epoch: int) -> None:
        super().__init__()
        self._n_images, self._epochs, self._first_epoch = n_images, epochs, first_epoch
        self._epoch = first_epoch
        self._compiling = True
        self._started = self._epoch_started = self._logged_at = time.perf_counter()
        columns, lines = shutil.get_terminal_size()  # 80 x 24 where a terminal knows no size
        self._bar: Any = tqdm(
            total=epochs * n_images,
            initial=first_epoch * n_images,
            unit=" images",
            unit_scale=True,
            smoothing=0,  # the mean rate, for the time that is left
            disable=not sys.stderr.isatty(),
            ncols=columns,
            nrows=lines,
            bar_format="{desc} |{bar}| {percentage:3.0f}% {rate_fmt}, {remaining} left{postfix}",
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show which epoch runs."""
        self._epoch, self._epoch_started = epoch, time.perf_counter()
        self._bar.set_description_str(f"epoch {epoch + 1}/{self._epochs}")
        if epoch == self._first_epoch + 1:
            self._started = self._epoch_started

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move the bar to where the training is."""
        if self._compiling:
            self._bar.unpause()
            self._compiling = False
        epochs = self._epoch + (batch + 1) / self.params["steps"]
        self._bar.update(round(epochs * self._n_images) - self._bar.n)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show the losses of the epoch, an image; with `mse` they are not nats."""
        logs, now, done = logs or {}, time.perf_counter(), epoch + 1
        self._bar.set_postfix_str(f"loss {logs['loss']:.1f}, KL {logs['kl']:.1f}")
        timed = epoch - self._first_epoch
        is_due = (
            timed == 0
            or done % max(1, self._epochs // 10) == 0
            or done == self._epochs
            or self.model.stop_training
            or now - self._logged_at > _SECONDS_BETWEEN_LINES
        )
        if not self._bar.disable or not is_due:
            return
        self._logged_at = now
        left = ""
        if timed and done < self._epochs:
            seconds = (now - self._started) / timed * (self._epochs - done)
            left = f", at most {tqdm.format_interval(seconds)} left"
        logger.info(
            "Epoch %d/%d: loss %.2f, reconstruction %.2f, KL %.2f, validation %.2f%s, "
            "%s images/s%s",
            done,
            self._epochs,
            *(logs[name] for name in ("loss", "reconstruction", "kl", "val_loss")),
            "" if self.model.reconstruction == "mse" else " nats",
            f"{self._n_images / (now - self._epoch_started):,.0f}",
            left,
        )

    def close(self) -> None:
        """Leave the terminal in order, also when training ended with an error."""
        self._bar.close()
