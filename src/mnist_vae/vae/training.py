"""Training: images a batch at a time, optimiser, schedule and callbacks around Keras' own `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mnist_vae.vae.callbacks import (
    Backup,
    BackupStore,
    Past,
    Progress,
    StopOnDivergence,
    TrainingFailedError,
)
from mnist_vae.vae.model import VariationalAutoencoder
from mnist_vae.vae.networks import hidden_layers_of

if TYPE_CHECKING:
    from mnist_vae.params import TrainingParams

_VALIDATION_BATCH = 4096
_BLOCK = 1024  # images that follow each other in a file, and are read together where there are many


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
    """Train `vae` in place and return how it went, in earlier processes too.

    Images are `[n, 784]`, uint8 or float32 in [0, 1], an array or a memory map. With early stopping
    the weights are those of the best validation loss, else of the last epoch. An interrupted
    training resumes from `backup`. A model that comes trained, `warm_start`, need not improve.

    Raises:
        TrainingFailedError: A loss is not finite, KL explodes, or the validation loss never falls.
    """
    keras.utils.set_random_seed(seed)
    batch_size = min(params.batch_size, len(train))
    batches = Batches(train, batch_size, seed, params.shuffle_images)
    # As few batches as memory allows, and of one size if possible: each size is compiled.
    n_batches = -(-len(validation) // _VALIDATION_BATCH)
    validation_batches = Batches(validation, -(-len(validation) // n_batches)).dataset()
    vae.compile(
        objective=params,
        optimizer=_optimizer(vae, params, params.epochs * len(batches)),
        jit_compile=params.jit_compile,
        steps_per_execution=min(params.steps_per_execution, len(batches)),
    )
    early_stopping = keras.callbacks.EarlyStopping(
        monitor="val_loss",
        mode="min",
        patience=params.early_stopping_patience or params.epochs,
        restore_best_weights=params.early_stopping_patience is not None,
    )
    state = Backup(backup, early_stopping)
    if not state.restore(vae):
        untrained = vae.evaluate(validation_batches, verbose=0, return_dict=True)
        state.past.untrained = untrained["loss"]

    def begin(epoch: int, _: Any) -> None:
        batches.shuffle(epoch)
        # Bowman et al., Generating Sentences from a Continuous Space (2016), section 3.1.
        vae.kl_warmup.assign(min(1.0, (epoch + 1) / (params.kl_warmup_epochs + 1)))

    def end(_: int, logs: dict[str, float]) -> None:
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(vae.optimizer.learning_rate))

    progress = Progress(batch_size * len(batches), params.epochs, state.past.epoch)
    try:
        vae.fit(
            batches.dataset(),
            shuffle=False,
            epochs=params.epochs,
            initial_epoch=params.epochs if state.past.stopped else state.past.epoch,
            validation_data=validation_batches,
            callbacks=[
                keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end),
                StopOnDivergence(),
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
        _check_improvement(state.past)
    return TrainingRun(state.past.history, state.past.seconds)


class Batches:
    """Images, float32 a batch at a time; with a seed, shuffled in whole batches by seed and epoch.

    `images` are `[n, 784]`, uint8 or float32 in [0, 1], an array or a memory map, of which
    `shuffle_images` are shuffled at a time (`shuffled`).
    """

    def __init__(
        self,
        images: NDArray[Any],
        batch_size: int,
        seed: int | None = None,
        shuffle_images: int = 1,
    ) -> None:
        self._images, self._batch_size = images, batch_size
        self._seed, self._shuffle_images = seed, shuffle_images
        self._order: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        whole, rest = divmod(len(self._images), self._batch_size)
        return whole if self._seed is not None else whole + (rest > 0)

    def __getitem__(self, index: int) -> NDArray[Any]:
        rows = slice(index * self._batch_size, (index + 1) * self._batch_size)
        batch: NDArray[Any] = self._images[rows if self._order is None else self._order[rows]]
        return batch

    def shuffle(self, epoch: int) -> None:
        """Put the images in the order of this epoch."""
        random = np.random.default_rng((self._seed or 0, epoch))
        self._order = shuffled(len(self._images), self._shuffle_images, random)

    def dataset(self) -> tf.data.Dataset:
        """Return the batches for Keras, each read when it is asked for, in the order of then."""
        kind = tf.as_dtype(self._images.dtype)

        def batch(index: Any) -> Any:
            images = tf.numpy_function(self.__getitem__, [index], kind)
            images = tf.ensure_shape(images, (None, self._images.shape[1]))
            return tf.cast(images, tf.float32) / 255.0 if kind == tf.uint8 else images

        options = tf.data.Options()
        options.autotune.enabled = False
        options.threading.private_threadpool_size = 1
        return tf.data.Dataset.range(len(self)).map(batch).with_options(options)


def shuffled(count: int, at_a_time: int, random: np.random.Generator) -> NDArray[np.intp]:
    """Return the rows 0 to `count` - 1 in a random order, of which neighbours are near on disk.

    More than `at_a_time` rows are shuffled in two steps, as CorgiPile does (Xu et al., Stochastic
    Gradient Descent without Full Data Shuffle, 2022): blocks of 1,024 rows, then `at_a_time` rows.
    """
    if count <= at_a_time:
        return random.permutation(count)
    blocks = random.permutation(-(-count // _BLOCK))
    rows = (blocks[:, np.newaxis] * _BLOCK + np.arange(_BLOCK)).ravel()
    rows = rows[rows < count]
    for start in range(0, count, at_a_time):
        random.shuffle(rows[start : start + at_a_time])
    return rows


def _optimizer(vae: VariationalAutoencoder, params: TrainingParams, steps: int) -> Any:
    """Return the optimiser, built before XLA compiles the step, with its learning rate schedule."""
    learning_rate: Any = params.learning_rate
    if params.learning_rate_schedule == "linear":
        learning_rate = keras.optimizers.schedules.PolynomialDecay(
            learning_rate, decay_steps=steps, end_learning_rate=0.0, power=1.0
        )
    elif params.learning_rate_schedule == "cosine":
        learning_rate = keras.optimizers.schedules.CosineDecay(learning_rate, decay_steps=steps)
    if params.optimizer == "muon":
        optimizer = _MuonInDecoder(vae.decoder, learning_rate, params.beta_2)
    else:
        optimizer = keras.optimizers.Adam(learning_rate, beta_2=params.beta_2)
    optimizer.build(vae.trainable_variables)
    return optimizer


class _MuonInDecoder(keras.optimizers.Muon):
    """Muon for the kernels of the decoder's hidden layers, Adam for all else.

    Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024), with the step
    sizes of Liu et al., Muon is Scalable for LLM Training (2025).
    """

    def __init__(self, decoder: keras.Model, learning_rate: Any, beta_2: float) -> None:
        adam = {"adam_beta_2": beta_2, "adam_weight_decay": None}
        super().__init__(learning_rate, weight_decay=None, name="muon", **adam)
        self._kernels = [id(layer.kernel) for layer in hidden_layers_of(decoder)]

    def _should_use_adamw(self, variable: Any) -> bool:
        return id(variable) not in self._kernels


def _check_improvement(past: Past) -> None:
    losses = past.history["val_loss"]
    best = min(losses)
    if best >= past.untrained or (past.stopped and best == losses[0]):
        raise TrainingFailedError(
            f"The validation loss did not improve in {len(losses)} epochs: expected it to fall, "
            f"received {past.untrained:.2f} before training, {losses[0]:.2f} after the first epoch "
            f"and {best:.2f} at best; nothing was saved: try a tenth of `training.learning_rate`, "
            "and check that training and validation images are of the same kind."
        )
