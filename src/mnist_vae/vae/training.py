"""Training: batches of images, optimiser, schedule and callbacks around Keras' own `fit`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mnist_vae.vae.callbacks import BackupStore, Progress, State
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

    Images are `[n, pixels]`, uint8 or float32 in [0, 1], an array or a memory map. With early
    stopping the weights are those of the best validation loss, else of the last epoch. A training
    that was interrupted resumes from `backup`, and ends with the same bytes. A model that comes
    trained, `warm_start`, need not improve.

    Raises:
        TrainingFailedError: A loss is not finite, or the validation loss never falls.
    """
    keras.utils.set_random_seed(seed)
    batch_size = min(params.batch_size, len(train))
    batches = Batches(train, batch_size, seed, params.shuffle_images)
    # As few batches as memory allows, and of one size if possible: each size is compiled.
    n_batches = -(-len(validation) // _VALIDATION_BATCH)
    validation_batches = Batches(validation, -(-len(validation) // n_batches)).dataset()
    vae.objective = params
    vae.compile(
        optimizer=_optimizer(vae, params, params.epochs * len(batches)),
        jit_compile=params.jit_compile,
        steps_per_execution=min(params.steps_per_execution, len(batches)),
    )
    state = State(backup, params.early_stopping_patience)
    if not state.restore(vae):
        state.untrained = vae.evaluate(validation_batches, verbose=0, return_dict=True)["loss"]

    def begin(epoch: int, _: Any) -> None:
        batches.shuffle(epoch)
        # Bowman et al., Generating Sentences from a Continuous Space (2016), section 3.1.
        vae.kl_warmup.assign(min(1.0, (epoch + 1) / (params.kl_warmup_epochs + 1)))

    progress = Progress(batch_size * len(batches), params.epochs, state.epoch)
    try:
        vae.fit(
            batches.dataset(),
            shuffle=False,
            epochs=params.epochs,
            initial_epoch=params.epochs if state.stopped else state.epoch,
            validation_data=validation_batches,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=begin), state, progress],
            verbose=0,
        )
    finally:
        progress.close()
        state.flush()  # also where the training was interrupted
    if not warm_start:
        state.check_improvement()
    return TrainingRun(state.history, state.seconds)


@dataclass(eq=False)
class Batches:
    """Images, float32 a batch at a time; with a seed, shuffled in whole batches by seed and epoch.

    `images` are `[n, pixels]`, uint8 or float32 in [0, 1], an array or a memory map, of which
    `shuffle_images` are shuffled at a time (`shuffled`).
    """

    images: NDArray[Any]
    batch_size: int
    seed: int | None = None
    shuffle_images: int = 1
    _order: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        whole, rest = divmod(len(self.images), self.batch_size)
        return whole if self.seed is not None else whole + (rest > 0)

    def __getitem__(self, index: int) -> NDArray[Any]:
        rows = slice(index * self.batch_size, (index + 1) * self.batch_size)
        batch: NDArray[Any] = self.images[rows if self._order is None else self._order[rows]]
        return batch

    def shuffle(self, epoch: int) -> None:
        """Put the images in the order of this epoch."""
        random = np.random.default_rng((self.seed or 0, epoch))
        self._order = shuffled(len(self.images), self.shuffle_images, random)

    def dataset(self) -> tf.data.Dataset:
        """Return the batches for Keras, each read when it is asked for, in the order of then."""
        kind = tf.as_dtype(self.images.dtype)

        def batch(index: Any) -> Any:
            images = tf.numpy_function(self.__getitem__, [index], kind)
            images = tf.ensure_shape(images, (None, self.images.shape[1]))
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
    """Return the optimiser, built before XLA compiles the step, with its learning rate schedule.

    `muon` is that of Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024),
    with the step sizes of Liu et al., Muon is Scalable for LLM Training (2025).
    """
    rate: Any = params.learning_rate
    if params.learning_rate_schedule == "linear":
        rate = keras.optimizers.schedules.PolynomialDecay(rate, steps, end_learning_rate=0.0)
    elif params.learning_rate_schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    weights = vae.trainable_variables
    if params.optimizer == "adam":
        adam = keras.optimizers.Adam(rate, beta_2=params.beta_2)
        adam.build(weights)
        return adam
    muon = keras.optimizers.Muon(
        rate, adam_beta_2=params.beta_2, adam_weight_decay=None, weight_decay=None
    )
    muon.build(weights)
    kernels = {id(layer.kernel) for layer in hidden_layers_of(vae.decoder)}
    for place, weight in enumerate(weights):
        if id(weight) not in kernels and muon.adam_velocities[place] is None:
            # Keras' Muon takes Adam's step for what has a velocity. To exclude a layer by its name
            # would exclude it in both networks.
            velocity = muon.add_variable_from_reference(weight, name="velocity")
            muon.adam_velocities[place] = velocity
    return muon
