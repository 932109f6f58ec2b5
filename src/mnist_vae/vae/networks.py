"""Encoder and decoder, as in Generative Deep Learning, Updated Edition, section 5.2."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
from keras import ops

N_PIXELS = 784
"""Of MNIST's images, 28 x 28."""

_FEW_DIMENSIONS = 3


@keras.saving.register_keras_serializable(package="mnist_vae")
class Sampling(keras.layers.Layer):
    """Draw z ~ N(μ, σ²) of a pair of μ and log σ², each `[batch, latent_dim]` (`reparameterize`).

    The `seed` is that of ε; None for a different draw in every process.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Sequence[Any]) -> Any:
        """Return z."""
        z_mean, z_log_var = inputs
        return reparameterize(z_mean, z_log_var, self.noise(z_mean))

    def noise(self, z_mean: Any) -> Any:
        """Return the next ε ~ N(0, I), of the shape of `z_mean`."""
        return keras.random.normal(ops.shape(z_mean), dtype=z_mean.dtype, seed=self.seed_generator)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of z, which is that of μ."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return {**super().get_config(), "seed": self.seed}


def reparameterize(z_mean: Any, z_log_var: Any, epsilon: Any) -> Any:
    """Return z = μ + exp(½ log σ²)·ε with ε ~ N(0, I), of the shape of ε.

    Kingma and Welling, Auto-Encoding Variational Bayes (2014), section 2.4.
    """
    return z_mean + ops.exp(0.5 * z_log_var) * epsilon


def build_encoder(
    latent_dim: int = 2,
    hidden_units: Sequence[int] = (512, 256),
    activation: str = "relu",
    seed: int = 0,
    n_pixels: int = N_PIXELS,
) -> keras.Model:
    """Return `encoder`: `n_pixels` → hidden layers → `z_mean`, `z_log_var` and a draw `z`.

    It maps float32 `[batch, n_pixels]` in [0, 1] to a list of those, each `[batch, latent_dim]`.
    The seed is that of initial weights and draws.
    """
    seeds = itertools.count(seed)
    pixels = x = keras.Input((n_pixels,), name="pixels")
    for number, width in enumerate(hidden_units, start=1):
        x = _dense(width, f"hidden_{number}", seeds, activation=activation)(x)
    z_mean, z_log_var = (_dense(latent_dim, name, seeds)(x) for name in ("z_mean", "z_log_var"))
    z = Sampling(seed, name="z")([z_mean, z_log_var])
    return keras.Model(pixels, [z_mean, z_log_var, z], name="encoder")


def build_decoder(
    latent_dim: int = 2,
    hidden_units: Sequence[int] = (512, 256),
    activation: str = "relu",
    seed: int = 0,
    initialization: str = "auto",
    n_pixels: int = N_PIXELS,
) -> keras.Model:
    """Return `decoder`, the encoder's mirror: z → hidden layers reversed → `n_pixels` sigmoid.

    It maps float32 `[batch, latent_dim]` to the mean of each pixel, `[batch, n_pixels]` in [0, 1].
    `hidden_units` are the *encoder's*. `initialization` is that of the first layer. With `spread`
    its units bend, where wᵤ·z + bᵤ = 0, all over the prior: w ~ N(0, I / latent_dim), b uniform in
    [−2, 2]. With `glorot` all bend at z = 0. `auto` is `spread` up to three latent dimensions.
    """
    # Not the encoder's stream: mirrored layers of equal shape would start out equal.
    seeds = itertools.count(seed + 1_000_000)
    first: dict[str, Any] = {}
    if initialization == "spread" or (initialization == "auto" and latent_dim <= _FEW_DIMENSIONS):
        kernel = keras.initializers.RandomNormal(stddev=latent_dim**-0.5, seed=next(seeds))
        bias = keras.initializers.RandomUniform(-2.0, 2.0, seed=next(seeds))
        first = {"kernel_initializer": kernel, "bias_initializer": bias}
    z = x = keras.Input((latent_dim,), name="z")
    for number, width in enumerate(reversed(hidden_units), start=1):
        how = first if number == 1 else {}
        x = _dense(width, f"hidden_{number}", seeds, activation=activation, **how)(x)
    logits = _dense(n_pixels, "logits", seeds)(x)
    pixels = keras.layers.Activation("sigmoid", name="pixels_mean")(logits)
    return keras.Model(z, pixels, name="decoder")


def _dense(units: int, name: str, seeds: Iterator[int], **how: Any) -> keras.layers.Dense:
    """Return a layer whose weights begin as Glorot's, from the next seed, unless `how` says."""
    if "kernel_initializer" not in how:
        how["kernel_initializer"] = keras.initializers.GlorotUniform(seed=next(seeds))
    return keras.layers.Dense(units, name=name, **how)


def hidden_layers_of(model: keras.Model) -> list[Any]:
    """Return the hidden layers of an encoder or a decoder, in their order."""
    return [layer for layer in model.layers if layer.name.startswith("hidden_")]


def logits_model(decoder: keras.Model) -> keras.Model:
    """Return the decoder but for its last sigmoid: `[batch, latent_dim]` to log-odds of pixels."""
    logits = decoder.get_layer("logits").output
    return keras.Model(decoder.input, logits, name="decoder_logits")


def to_bytes(model: keras.Model) -> bytes:
    """Return the content of the model's `.keras` file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        model.save(file)
        return file.read_bytes()


def from_bytes(content: bytes) -> keras.Model:
    """Return the model of a `.keras` file, not compiled; Keras refuses to run code in it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        file.write_bytes(content)
        return keras.saving.load_model(file, compile=False, safe_mode=True)
