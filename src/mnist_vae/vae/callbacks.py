"""Keras callbacks of a training: its state, with an end where there is a reason, and progress."""

from __future__ import annotations

import logging
import math
import shutil
import time
from typing import Any, Protocol

import keras
import numpy as np
from tqdm import tqdm

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 60  # of the log, at most, but for the length of an epoch
_VALUES = ("epoch", "stopped", "seconds", "untrained", "history")  # of `State`, that are saved


class TrainingFailedError(RuntimeError):
    """The loss is not finite, or never improves."""


class BackupStore(Protocol):
    """Where the state of a training is kept."""

    @property
    def interval(self) -> float:
        """Seconds between two saves, at least."""

    def load(self) -> dict[str, Any] | None:
        """Return what was saved last, or None."""

    def save(self, state: dict[str, Any]) -> None:
        """Keep `state`: NumPy arrays, and values that JSON can hold."""


class State(keras.callbacks.Callback):
    """History and best weights of a training, in this process and in earlier ones.

    It ends a training that diverges, or after `patience` epochs without a better validation loss,
    and then restores the best weights. With a `store` it is saved where the store's interval has
    passed, and by `flush`.
    """

    def __init__(self, store: BackupStore | None, patience: int | None) -> None:
        super().__init__()
        self.epoch, self.stopped = 0, False
        self.seconds, self.untrained = 0.0, math.inf  # the validation loss before the first epoch
        self.history: dict[str, list[float]] = {}
        self._store, self._patience = store, patience
        self._best_weights: list[Any] = []
        self._unsaved: dict[str, Any] | None = None
        self._saved_at = self._clock = time.perf_counter()

    def restore(self, model: keras.Model) -> bool:
        """Take up the state in the store, and return whether there was one."""
        state = None if self._store is None else self._store.load()
        if state is None:
            return False
        for number, variable in enumerate(_variables(model)):
            variable.assign(state[f"variable_{number}"])
        for name in _VALUES:
            setattr(self, name, state[name])
        self._best_weights = [state[f"best_{number}"] for number in range(state["n_best"])]
        return True

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self._clock = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add the epoch to the history, stop if there is a reason, and save what is due."""
        figures = {**(logs or {}), "learning_rate": float(self.model.optimizer.learning_rate)}
        _check_finite(epoch, figures)
        for name, value in figures.items():
            self.history.setdefault(name, []).append(float(value))
        if self._patience is not None:
            losses = self.history["val_loss"]
            waited = len(losses) - 1 - int(np.argmin(losses))
            if waited == 0:
                self._best_weights = self.model.get_weights()
            if waited >= self._patience:
                self.model.stop_training = self.stopped = True
        now = time.perf_counter()
        self.epoch, self.seconds, self._clock = epoch + 1, self.seconds + now - self._clock, now
        if self._store is not None:
            variables, best = _variables(self.model), self._best_weights
            # Copies: an interruption in the next epoch saves the state of this one.
            self._unsaved = {
                **{name: getattr(self, name) for name in _VALUES},
                **{f"variable_{n}": np.asarray(one).copy() for n, one in enumerate(variables)},
                **{f"best_{n}": np.asarray(one) for n, one in enumerate(best)},
                "n_best": len(best),
            }
            if now - self._saved_at >= self._store.interval:
                self.flush()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Give the model its best weights, with early stopping."""
        if self._best_weights:
            self.model.set_weights(self._best_weights)

    def flush(self) -> None:
        """Save the state of the last whole epoch, unless it is saved."""
        state, self._unsaved = self._unsaved, None
        if self._store is not None and state is not None:
            self._store.save(state)
            self._saved_at = time.perf_counter()

    def check_improvement(self) -> None:
        """Raise `TrainingFailedError` where the validation loss never fell."""
        losses = self.history["val_loss"]
        best = min(losses)
        if best >= self.untrained or (self.stopped and best == losses[0]):
            raise TrainingFailedError(
                f"The validation loss did not improve in {len(losses)} epochs: expected it to "
                f"fall, received {self.untrained:.2f} before training, {losses[0]:.2f} after the "
                f"first epoch and {best:.2f} at best; nothing was saved: try a tenth of "
                "`training.learning_rate`, and check that training and validation images are of "
                "the same kind."
            )


def _variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def _check_finite(epoch: int, figures: dict[str, float]) -> None:
    for name, loss in (("training", figures["loss"]), ("validation", figures["val_loss"])):
        if not math.isfinite(loss):
            raise TrainingFailedError(
                f"The {name} loss became {loss} in epoch {epoch + 1}: expected a finite number; "
                "nothing was saved: try a tenth of `training.learning_rate` or a larger "
                "`training.batch_size`, and check that the pixels lie in [0, 1]."
            )


class Progress(keras.callbacks.Callback):
    """Show a training as one bar on a terminal, and elsewhere as some ten lines of the log."""

    def __init__(self, n_images: int, epochs: int, first_epoch: int) -> None:
        super().__init__()
        self._n_images, self._epochs, self._epoch = n_images, epochs, first_epoch
        self._start = first_epoch * n_images
        self._epoch_started = self._logged_at = time.perf_counter()
        columns, lines = shutil.get_terminal_size()  # 80 x 24 where a terminal knows no size
        self._bar: Any = tqdm(
            total=epochs * n_images,
            initial=self._start,
            unit=" images",
            unit_scale=True,
            smoothing=0,  # the mean rate, for the time that is left
            disable=None,  # where it is no terminal
            ncols=columns,
            nrows=lines,
            bar_format="{desc} |{bar}| {percentage:3.0f}% {rate_fmt}, {remaining} left{postfix}",
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show which epoch runs."""
        self._epoch, self._epoch_started = epoch, time.perf_counter()
        self._bar.set_description_str(f"epoch {epoch + 1}/{self._epochs}")

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move the bar to where the training is."""
        if self._bar.n == self._start:
            self._bar.unpause()  # the time to compile says nothing of the time that is left
        epochs = self._epoch + (batch + 1) / self.params["steps"]
        self._bar.update(round(epochs * self._n_images) - self._bar.n)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show the losses of the epoch, an image; with `mse` they are not nats."""
        figures, now, done = logs or {}, time.perf_counter(), epoch + 1
        self._bar.set_postfix_str(f"loss {figures['loss']:.1f}, KL {figures['kl']:.1f}")
        is_tenth = done in (1, self._epochs) or done % max(1, self._epochs // 10) == 0
        is_due = self.model.stop_training or now - self._logged_at > _SECONDS_BETWEEN_LINES
        if self._bar.disable and (is_tenth or is_due):
            self._logged_at = now
            logger.info(
                "Epoch %d/%d: loss %.2f, reconstruction %.2f, KL %.2f, validation %.2f%s, "
                "%s images/s",
                done,
                self._epochs,
                *(figures[name] for name in ("loss", "reconstruction", "kl", "val_loss")),
                "" if self.model.reconstruction == "mse" else " nats",
                f"{self._n_images / (now - self._epoch_started):,.0f}",
            )

    def close(self) -> None:
        """Leave the terminal in order, also when training ended with an error."""
        self._bar.close()
