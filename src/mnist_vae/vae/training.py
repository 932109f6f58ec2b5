"""Training: optimiser, learning-rate schedule and callbacks around Keras' own `fit`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from mnist_vae.vae.callbacks import Progress, StopOnNonFinite
from mnist_vae.vae.model import VariationalAutoencoder


def fit(
    vae: VariationalAutoencoder,
    train: NDArray[np.float32],
    validation: NDArray[np.float32],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    learning_rate_schedule: str,
    early_stopping_patience: int | None,
    jit_compile: bool,
    seed: int,
) -> dict[str, list[float]]:
    """Train `vae` in place with Adam and return its history.

    With early stopping the weights are those of the epoch with the best validation loss;
    without, those of the last epoch.

    Args:
        vae: The model to train.
        train: Training images in [0, 1], float32 `[n, 784]`.
        validation: Validation images in [0, 1], float32 `[m, 784]`.
        epochs: Epochs, at most.
        batch_size: Images a step.
        learning_rate: Adam's learning rate at the first step.
        learning_rate_schedule: `constant`, or `linear` or `cosine` to 0 over all epochs.
        early_stopping_patience: Epochs without a better validation loss; None for all epochs.
        jit_compile: Compile the step with XLA.
        seed: Seed of the shuffling.

    Returns:
        For each epoch `loss`, `reconstruction`, `kl`, each also as `val_...` (nats an image,
        the mean over the epoch's batches), and `learning_rate` at its end.

    Raises:
        TrainingDivergedError: The loss became NaN or infinite.
    """
    keras.utils.set_random_seed(seed)
    steps = epochs * -(-len(train) // batch_size)
    vae.compile(
        optimizer=keras.optimizers.Adam(_schedule(learning_rate_schedule, learning_rate, steps)),
        jit_compile=jit_compile,
    )
    progress = Progress(len(train), epochs)
    callbacks: list[keras.callbacks.Callback] = [
        StopOnNonFinite(),
        _RecordLearningRate(),
        progress,
    ]
    if early_stopping_patience is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor="val_loss",
                mode="min",
                patience=early_stopping_patience,
                restore_best_weights=True,
            )
        )
    try:
        history = vae.fit(
            train,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=(validation,),
            validation_batch_size=1024,
            callbacks=callbacks,
            verbose=0,
        )
    finally:
        progress.close()
    return {name: [float(value) for value in values] for name, values in history.history.items()}


def _schedule(name: str, learning_rate: float, steps: int) -> Any:
    if name == "linear":
        return keras.optimizers.schedules.PolynomialDecay(
            learning_rate, decay_steps=steps, end_learning_rate=0.0, power=1.0
        )
    if name == "cosine":
        return keras.optimizers.schedules.CosineDecay(learning_rate, decay_steps=steps)
    return learning_rate


class _RecordLearningRate(keras.callbacks.Callback):
    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)
