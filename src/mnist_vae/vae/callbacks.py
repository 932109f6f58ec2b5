"""Keras callbacks of a training run: its progress, and its end when the loss is not a number."""

from __future__ import annotations

import logging
import math
import sys
import time
from typing import Any

import keras
from tqdm import tqdm

logger = logging.getLogger(__name__)


class TrainingDivergedError(RuntimeError):
    """The loss became NaN or infinite."""


class StopOnNonFinite(keras.callbacks.Callback):
    """Raise `TrainingDivergedError` at the first batch whose loss is NaN or infinite."""

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember the epoch for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Check the loss of the batch.

        Raises:
            TrainingDivergedError: The loss is not finite.
        """
        self._check("training", (logs or {}).get("loss", 0.0), f", batch {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Check the validation loss.

        Raises:
            TrainingDivergedError: The loss is not finite.
        """
        self._check("validation", (logs or {}).get("val_loss", 0.0))

    def _check(self, name: str, loss: float, where: str = "") -> None:
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"The {name} loss became {loss} in epoch {self._epoch + 1}{where}, where a finite "
                "number was expected; the model was not saved: try a tenth of "
                "`training.learning_rate` or a larger `training.batch_size`, and check that the "
                "pixels lie in [0, 1]."
            )


class Progress(keras.callbacks.Callback):
    """Show a training run as one bar on a terminal, and as one log line an epoch elsewhere.

    Args:
        n_images: Training images an epoch.
        epochs: Epochs of the run, at most.
    """

    def __init__(self, n_images: int, epochs: int) -> None:
        super().__init__()
        self._n_images = n_images
        self._epochs = epochs
        self._bar: Any = None
        self._started = 0.0
        self._epoch_started = 0.0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Open the bar."""
        self._started = time.perf_counter()
        self._bar = tqdm(
            total=self._epochs * self._n_images,
            desc=f"epoch 1/{self._epochs}",
            unit=" images",
            unit_scale=True,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
            bar_format="{desc} |{bar}| {percentage:3.0f}% {rate_fmt}, {remaining} left{postfix}",
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Say which epoch runs."""
        self._epoch_started = time.perf_counter()
        self._bar.set_description_str(f"epoch {epoch + 1}/{self._epochs}")
        if epoch == 1:
            self._started = self._epoch_started  # the first epoch was longer: it compiles

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move the bar by the images of one batch."""
        if not self._bar.disable:
            batch_size = -(-self._n_images // self.params["steps"])
            self._bar.update(min(batch_size, self._n_images - batch * batch_size))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show the losses of the epoch, in nats an image."""
        logs = logs or {}
        line = (
            f"loss {logs['loss']:.2f} = reconstruction {logs['reconstruction']:.2f} "
            f"+ KL {logs['kl']:.2f}, validation {logs['val_loss']:.2f}"
        )
        if self._bar.disable:
            now = time.perf_counter()
            left = (now - self._started) / max(epoch, 1) * (self._epochs - epoch - 1)
            logger.info(
                "Epoch %d/%d: %s nats, %s images/s, at most %s left",
                epoch + 1,
                self._epochs,
                line,
                f"{self._n_images / (now - self._epoch_started):,.0f}",
                tqdm.format_interval(left),
            )
        else:
            self._bar.set_postfix_str(line)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Leave the terminal in order, also when training ended with an error."""
        if self._bar is not None:
            self._bar.close()
