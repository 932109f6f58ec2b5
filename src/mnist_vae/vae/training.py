"""Training: data, optimiser, learning-rate schedule and callbacks around Keras' own `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import keras
from numpy.typing import NDArray

from mnist_vae.vae.callbacks import (
    Backup,
    BackupStore,
    Progress,
    RecordLearningRate,
    StopOnDivergence,
    TrainingFailedError,
    WarmUpKl,
)
from mnist_vae.vae.feeding import Batches
from mnist_vae.vae.model import VariationalAutoencoder
from mnist_vae.vae.networks import hidden_layers_of

if TYPE_CHECKING:
    from mnist_vae.params import TrainingParams

_VALIDATION_BATCH = 4096


class TrainingRun(NamedTuple):
    """How a training went."""

    history: dict[str, list[float]]
    """For each epoch `loss`, `reconstruction`, `kl`, each also as `val_...` (nats an image, the
    mean over the epoch's batches), and `learning_rate` at its end."""
    seconds: float
    """How long the epochs took, compilation and validation included."""


def fit(
    vae: VariationalAutoencoder,
    train: NDArray[Any],
    validation: NDArray[Any],
    params: TrainingParams,
    *,
    seed: int,
    backup: BackupStore | None = None,
    warm_start: bool = False,
) -> TrainingRun:
    """Train `vae` in place and return how it went.

    With early stopping the weights are those of the epoch with the best validation loss;
    without, those of the last epoch. An epoch is as many whole batches as the images fill; the
    few images that are left over are others in every epoch. The images are copied a batch at a
    time only.

    Args:
        vae: The model to train.
        train: Training images `[n, 784]`, uint8 or float32 in [0, 1], an array or a memory map.
        validation: Validation images `[m, 784]`, likewise.
        params: What is minimised, epochs, batch size, learning rate and so on.
        seed: Seed of the shuffling.
        backup: Where the state is kept, and an interrupted training resumes from; None for
            neither.
        warm_start: The model comes trained, so that a validation loss that does not improve is no
            failure.

    Returns:
        History and duration, those of earlier processes included.

    Raises:
        TrainingFailedError: The loss became NaN or infinite, the KL term exploded, or the
            validation loss of a model that is not `warm_start` never improved.
    """
    keras.utils.set_random_seed(seed)
    batch_size = min(params.batch_size, len(train))
    batches = Batches(train, batch_size, seed, params.shuffle_images)
    # As few batches as memory is no matter for, and of one size if possible: each is compiled.
    n_batches = -(-len(validation) // _VALIDATION_BATCH)
    validation_batches = Batches(validation, -(-len(validation) // n_batches)).dataset()
    _compile(vae, params, len(batches))
    early_stopping = keras.callbacks.EarlyStopping(
        monitor="val_loss",
        mode="min",
        patience=params.early_stopping_patience or params.epochs,
        restore_best_weights=params.early_stopping_patience is not None,
    )
    state = Backup(backup, early_stopping)
    if not state.restore(vae):
        state.untrained = vae.evaluate(validation_batches, verbose=0, return_dict=True)["loss"]
    progress = Progress(batch_size * len(batches), params.epochs, state.epoch)
    try:
        vae.fit(
            batches.dataset(),
            shuffle=False,
            epochs=params.epochs,
            initial_epoch=params.epochs if state.stopped else state.epoch,
            validation_data=validation_batches,
            callbacks=[
                keras.callbacks.LambdaCallback(
                    on_epoch_begin=lambda epoch, _: batches.shuffle(epoch)
                ),
                WarmUpKl(params.kl_warmup_epochs),
                StopOnDivergence(),
                RecordLearningRate(),
                early_stopping,
                state,
                progress,
            ],
            verbose=0,
        )
    finally:
        progress.close()
        state.flush()  # also where the training was interrupted
    if not warm_start:
        _check_improvement(state.untrained, state.history["val_loss"], state.stopped)
    return TrainingRun(state.history, state.seconds)


def _compile(vae: VariationalAutoencoder, params: TrainingParams, steps_per_epoch: int) -> None:
    learning_rate = _schedule(params, params.epochs * steps_per_epoch)
    if params.optimizer == "muon":
        optimizer = _MuonInDecoder(vae.decoder, learning_rate, params.beta_2)
    else:
        optimizer = keras.optimizers.Adam(learning_rate, beta_2=params.beta_2)
    optimizer.build(vae.trainable_variables)
    vae.compile(
        objective=params,
        optimizer=optimizer,
        jit_compile=params.jit_compile,
        steps_per_execution=min(params.steps_per_execution, steps_per_epoch),
    )


class _MuonInDecoder(keras.optimizers.Muon):
    """Muon for the kernels of the decoder's hidden layers, Adam for all else.

    Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024), with the step
    sizes of Liu et al., Muon is Scalable for LLM Training (2025). In the encoder too it would be
    slower, and no better: the encoder then fits the training images alone.

    Args:
        decoder: The decoder that is trained.
        learning_rate: Of both, a number or a schedule.
        beta_2: Adam's.
    """

    def __init__(self, decoder: keras.Model, learning_rate: Any, beta_2: float) -> None:
        adam = {"adam_beta_2": beta_2, "adam_weight_decay": None}
        super().__init__(learning_rate, weight_decay=None, name="muon", **adam)
        self._kernels = [id(layer.kernel) for layer in hidden_layers_of(decoder)]

    def _should_use_adamw(self, variable: Any) -> bool:
        return id(variable) not in self._kernels


def _schedule(params: TrainingParams, steps: int) -> Any:
    """Return the learning rate: a number, or a schedule that reaches 0 after `steps`."""
    if params.learning_rate_schedule == "linear":
        return keras.optimizers.schedules.PolynomialDecay(
            params.learning_rate, decay_steps=steps, end_learning_rate=0.0, power=1.0
        )
    if params.learning_rate_schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(params.learning_rate, decay_steps=steps)
    return params.learning_rate


def _check_improvement(untrained: float, losses: list[float], stopped: bool) -> None:
    best = min(losses)
    if best >= untrained or (stopped and best == losses[0]):
        raise TrainingFailedError(
            f"The validation loss did not improve in {len(losses)} epochs: expected it to fall, "
            f"received {untrained:.2f} before training, {losses[0]:.2f} after the first epoch "
            f"and {best:.2f} at best; nothing was saved: try a tenth of `training.learning_rate`, "
            "and check that training and validation images are of the same kind."
        )
