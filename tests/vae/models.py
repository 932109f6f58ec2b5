"""Small decoders whose images, posterior or likelihood are known, and −ELBO under any q."""

import keras
import numpy as np

from mnist_vae.vae.elbo import measure
from mnist_vae.vae.networks import build_decoder, build_encoder, logits_model


def small(latent_dim=2, n_pixels=784, hidden_units=(16,)):
    """An encoder and a decoder with few weights."""
    how = {"hidden_units": hidden_units, "seed": 1, "n_pixels": n_pixels}
    return build_encoder(latent_dim, **how), build_decoder(latent_dim, **how)


def linear_decoder(weights, bias):
    """A decoder whose logits are z W + b."""
    z = keras.Input((weights.shape[0],))
    logits = keras.layers.Dense(weights.shape[1], name="logits")
    outputs = keras.layers.Activation("sigmoid")(logits(z))
    logits.set_weights([weights, bias])
    return keras.Model(z, outputs)


def sharpened(latent_dim, factor=4.0, n_pixels=784):
    """A decoder that makes something else of every z, or of none with the factor 0."""
    _, decoder = small(latent_dim, n_pixels, (32, 16))
    logits = decoder.get_layer("logits")
    logits.set_weights([factor * weight for weight in logits.get_weights()])
    return decoder


def images_of(decoder, n, seed=0):
    """What the decoder makes of z from the prior."""
    z = np.random.default_rng(seed).standard_normal((n, decoder.input_shape[-1]))
    return np.asarray(decoder(z.astype(np.float32)))


def negative_elbo(decoder, pixels, posterior, term="binary_crossentropy", draws=5, seed=7):
    """−ELBO of images under any q, `[n]`."""
    shape = draws, *np.shape(posterior[0])
    epsilons = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return measure(logits_model(decoder), pixels, posterior, term, epsilons).negative_elbo
