"""A decoder whose posterior and likelihood are known in closed form."""

import keras


def linear_decoder(weights, bias):
    """Return a decoder whose logits are z W + b."""
    z = keras.Input((weights.shape[0],))
    logits = keras.layers.Dense(weights.shape[1], name="logits")
    outputs = keras.layers.Activation("sigmoid")(logits(z))
    logits.set_weights([weights, bias])
    return keras.Model(z, outputs)
