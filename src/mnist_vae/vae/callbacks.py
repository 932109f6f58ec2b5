"""Keras callbacks of a training run: progress, KL warm-up, backup, an end when it diverges."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from contextlib import suppress
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

logger = logging.getLogger(__name__)


_LARGEST_KL = 1e6  # nats; the untrained network's whole loss is some 550


class TrainingFailedError(RuntimeError):
    """Training came to nothing: a loss that is not finite, explodes or never improves."""


class StopOnDivergence(keras.callbacks.Callback):
    """Raise `TrainingFailedError` as soon as a loss is NaN or infinite, or the KL term explodes."""

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember the epoch for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Check the means of the epoch so far.

        Raises:
            TrainingFailedError: The loss is not finite, or the KL term exploded.
        """
        logs = logs or {}
        self._check("training", logs["loss"], logs["kl"], f", batch {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Check the validation loss.

        Raises:
            TrainingFailedError: The loss is not finite, or the KL term exploded.
        """
        logs = logs or {}
        self._check("validation", logs["val_loss"], logs["val_kl"], "")

    def _check(self, name: str, loss: float, kl: float, where: str) -> None:
        if kl > _LARGEST_KL:  # infinity too: exp(log σ²) overflows before anything else does
            problem = (
                f"The KL term in {name} exploded with the encoder's z_log_var: it was {kl:.3g} "
                f"nats an image in epoch {self._epoch + 1}{where}, where a few dozen were expected"
            )
        elif not math.isfinite(loss):
            problem = (
                f"The {name} loss became {loss} in epoch {self._epoch + 1}{where}, where a finite "
                "number was expected"
            )
        else:
            return
        raise TrainingFailedError(
            f"{problem}; nothing was saved: try a tenth of `training.learning_rate` or a larger "
            "`training.batch_size`, and check that the pixels lie in [0, 1]."
        )


class RecordLearningRate(keras.callbacks.Callback):
    """Add the `learning_rate` at its end to the history of every epoch."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add it."""
        if logs is not None:
            logs["learning_rate"] = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))


class WarmUpKl(keras.callbacks.Callback):
    """Raise the weight of the KL term to its full value, an equal step an epoch.

    Bowman et al., Generating Sentences from a Continuous Space (2016), section 3.1.

    Args:
        epochs: The first epoch at full weight is number `epochs + 1`; 0 for all of them.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Set the weight of this epoch."""
        self.model.kl_warmup.assign(min(1.0, (epoch + 1) / (self._epochs + 1)))


class BackupStore(Protocol):
    """Where `Backup` keeps the state of a training."""

    @property
    def interval(self) -> float:
        """Seconds between two saves, at least."""

    def load(self) -> dict[str, Any] | None:
        """Return what was saved last, or None."""

    def save(self, state: dict[str, Any]) -> None:
        """Keep `state`: NumPy arrays, and values that JSON can hold."""


class Backup(keras.callbacks.Callback):
    """Keep the state of a training at the end of epochs, so that it can resume from there.

    It is saved as often as the interval of the store allows, and at the end by `flush`. Other than
    Keras' `BackupAndRestore` it has history and early stopping too, and all in one piece, so that a
    kill leaves either the old state or the new. Name it after `early_stopping`.

    Args:
        store: Where the state is kept; None for nowhere.
        early_stopping: The callback whose state belongs to it.

    Attributes:
        epoch: Epochs that are done.
        stopped: Whether early stopping ended the training.
        seconds: How long they took, in this process and in earlier ones.
        untrained: Validation loss before the first epoch.
        history: A list for each figure, a value an epoch.
    """

    _STOPPING = ("wait", "best", "best_epoch", "stopped_epoch")

    def __init__(
        self, store: BackupStore | None, early_stopping: keras.callbacks.EarlyStopping
    ) -> None:
        super().__init__()
        self._store = store
        self._early_stopping = early_stopping
        self._restored: dict[str, Any] | None = None
        self._unsaved: dict[str, Any] | None = None
        self._saved_at = self._clock = time.perf_counter()
        self.epoch = 0
        self.stopped = False
        self.seconds = 0.0
        self.untrained = math.inf
        self.history: dict[str, list[float]] = {}

    def restore(self, model: keras.Model) -> bool:
        """Take up the state in the store, and return whether there was one."""
        state = None if self._store is None else self._store.load()
        if state is None:
            return False
        for number, variable in enumerate(_variables(model)):
            variable.assign(state[f"variable_{number}"])
        self._restored = state
        self.epoch, self.stopped = state["epoch"], state["stopped"]
        self.seconds, self.untrained = state["seconds"], state["untrained"]
        self.history = state["history"]
        return True

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Start the clock, and give early stopping its state back, which it has just reset."""
        self._clock = time.perf_counter()
        if self._restored is None:
            return
        for name in self._STOPPING:
            setattr(self._early_stopping, name, self._restored[name])
        self._early_stopping.best_weights = [
            self._restored[f"best_{number}"] for number in range(self._restored["n_best"])
        ]

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add the epoch to the history, and save the state if the last save is long enough ago."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self.epoch, self.stopped = epoch + 1, self.model.stop_training
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._clock = now
        if self._store is None:
            return
        self._unsaved = self._state()
        if now - self._saved_at >= self._store.interval:
            self.flush()

    def flush(self) -> None:
        """Save the state of the last whole epoch, unless it is saved."""
        state, self._unsaved = self._unsaved, None
        if self._store is not None and state is not None:
            self._store.save(state)
            self._saved_at = time.perf_counter()

    def _state(self) -> dict[str, Any]:
        """Return a copy of all that the training needs to resume after this epoch."""
        best = self._early_stopping.best_weights or []
        return {
            "epoch": self.epoch,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "untrained": self.untrained,
            "history": {name: list(values) for name, values in self.history.items()},
            **{name: getattr(self._early_stopping, name) for name in self._STOPPING},
            "n_best": len(best),
            **{f"best_{number}": np.asarray(weight).copy() for number, weight in enumerate(best)},
            **{
                f"variable_{number}": np.asarray(variable).copy()
                for number, variable in enumerate(_variables(self.model))
            },
        }


def _variables(model: keras.Model) -> list[Any]:
    """Return all that training changes: weights, states of random generators, optimiser."""
    return [*model.variables, *model.optimizer.variables]


class Progress(keras.callbacks.Callback):
    """Show a training run as one bar on a terminal, and as one log line an epoch elsewhere.

    Args:
        n_images: Training images an epoch.
        epochs: Epochs of the run, at most.
        first_epoch: Epochs that an earlier process did.
    """

    def __init__(self, n_images: int, epochs: int, first_epoch: int = 0) -> None:
        super().__init__()
        self._n_images = n_images
        self._epochs = epochs
        self._first_epoch = self._epoch = first_epoch
        self._bar: Any = None
        self._started = 0.0
        self._epoch_started = 0.0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Open the bar."""
        self._started = time.perf_counter()
        self._bar = tqdm(
            total=self._epochs * self._n_images,
            initial=self._first_epoch * self._n_images,
            desc=f"epoch {self._first_epoch + 1}/{self._epochs}",
            unit=" images",
            unit_scale=True,
            disable=not sys.stderr.isatty(),
            **_width(),
            bar_format="{desc} |{bar}| {percentage:3.0f}% {rate_fmt}, {remaining} left{postfix}",
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Say which epoch runs."""
        self._epoch = epoch
        self._epoch_started = time.perf_counter()
        self._bar.set_description_str(f"epoch {epoch + 1}/{self._epochs}")
        if epoch == self._first_epoch + 1:
            self._started = self._epoch_started  # the first epoch was longer: it compiles

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move the bar to where training is."""
        if not self._bar.disable:
            share = (batch + 1) / self.params["steps"]
            self._bar.update(round((self._epoch + share) * self._n_images) - self._bar.n)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show the losses of the epoch, an image; with `mse` they are not nats."""
        logs = logs or {}
        line = (
            f"loss {logs['loss']:.2f}, reconstruction {logs['reconstruction']:.2f}, "
            f"KL {logs['kl']:.2f}, validation {logs['val_loss']:.2f}"
        )
        if self._bar.disable:
            now = time.perf_counter()
            logger.info(
                "Epoch %d/%d: %s%s, %s images/s%s",
                epoch + 1,
                self._epochs,
                line,
                "" if self.model.reconstruction == "mse" else " nats",
                f"{self._n_images / (now - self._epoch_started):,.0f}",
                self._left(epoch, now),
            )
        else:
            self._bar.set_postfix_str(line)

    def _left(self, epoch: int, now: float) -> str:
        """Return how long the rest takes, unknown in the first epoch, which compiles."""
        epochs = epoch - self._first_epoch
        if not epochs:
            return ""
        left = (now - self._started) / epochs * (self._epochs - epoch - 1)
        return f", at most {tqdm.format_interval(left)} left"

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Leave the terminal in order, also when training ended with an error."""
        if self._bar is not None:
            self._bar.close()


def _width() -> dict[str, Any]:
    """Return the width for tqdm: on a terminal that does not know its own, 80."""
    with suppress(OSError, ValueError):  # what stands for a terminal in a test has no number
        if os.get_terminal_size(sys.stderr.fileno()).columns == 0:
            return {"ncols": 80}
    return {"dynamic_ncols": True}
