"""What the encoder is shown in training in the place of an image, compiled with the step.

Keras' own random numbers, one a pixel, would take several times the rest of the step on a CPU.
These are a counter, hashed (lowbias32 of Wellons, Hash Function Prospector), and several pixels
share the bits of each. `state` is what a `keras.random.SeedGenerator` gives next: the seed, and a
count of calls, so that it is other at every call.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from mnist_vae.corruptions import Kind, blur_matrix, check_level
from mnist_vae.images import IMAGE_SHAPE


def resample(pixels: Any, state: Any) -> Any:
    """Return pixels that are 1 with the probability of their grey value, else 0.

    Args:
        pixels: Grey values in [0, 1], `[batch, 784]`.
        state: What a `keras.random.SeedGenerator` gives next, other at every call.
    """
    thresholds = _integers(pixels, 8, state)
    # White, 1, is above the greatest threshold, (255 + ½) / 256; black, 0, below the least.
    return ops.cast(ops.cast(thresholds, pixels.dtype) + 0.5 < 256 * pixels, pixels.dtype)


def corrupted(pixels: Any, kind: Kind, level: float, state: Any) -> Any:
    """Return corrupted images, which have the distribution of `corruptions.corrupt`.

    Args:
        pixels: Grey values in [0, 1], `[batch, 784]`.
        kind: `gaussian`, `salt_and_pepper`, `masking` or `blur`.
        level: How much of it.
        state: What a `keras.random.SeedGenerator` gives next, other at every call.

    Raises:
        ValueError: The kind is unknown, or the level out of its range.
    """
    check_level(kind, level)
    if kind == "blur":
        return _blurred(pixels, level)
    uniform = (ops.cast(_integers(pixels, 16, state), pixels.dtype) + 0.5) / 65536
    if kind == "masking":
        return ops.where(uniform < level, 0.0, pixels)
    if kind == "salt_and_pepper":
        impulse = ops.cast(uniform >= level / 2, pixels.dtype)
        return ops.where(uniform < level, impulse, pixels)
    return ops.clip(pixels + level * _gaussian(uniform), 0.0, 1.0)


def _gaussian(uniform: Any) -> Any:
    """Return N(0, 1) numbers made of pairs of uniform ones: Box and Muller (1958)."""
    first, second = ops.split(uniform, 2, axis=-1)
    radius, angle = ops.sqrt(-2.0 * ops.log(first)), 2.0 * math.pi * second
    return ops.concatenate([radius * ops.cos(angle), radius * ops.sin(angle)], axis=-1)


def _blurred(pixels: Any, level: float) -> Any:
    matrix = ops.convert_to_tensor(blur_matrix(level), pixels.dtype)
    images = ops.reshape(pixels, (-1, *IMAGE_SHAPE))
    blurred = ops.matmul(ops.matmul(matrix, images), ops.transpose(matrix))
    return ops.clip(ops.reshape(blurred, ops.shape(pixels)), 0.0, 1.0)


def _integers(pixels: Any, bits: int, state: Any) -> Any:
    """Return random integers of 8 or 16 bits, int32, one a pixel."""
    share = 32 // bits  # pixels that share a word
    columns = -(-pixels.shape[-1] // share)
    row = ops.arange(ops.shape(pixels)[0], dtype="int32")[:, None]
    count = ops.cast(columns * row + ops.arange(columns, dtype="int32"), "uint32")
    state = ops.cast(state, "uint32")
    word = _hash(count + _hash(state[1] + _hash(state[0])))
    shifts = [ops.right_shift(word, ops.cast(bits * place, "uint32")) for place in range(share)]
    drawn = ops.concatenate(shifts, axis=-1)[:, : pixels.shape[-1]]
    return ops.cast(ops.bitwise_and(drawn, ops.cast(2**bits - 1, "uint32")), "int32")


def _hash(word: Any) -> Any:
    """Return uint32 whose bits look random, and differ wherever those of `word` do."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        word = ops.bitwise_xor(word, ops.right_shift(word, ops.cast(shift, "uint32")))
        word = word * ops.cast(factor, "uint32")
    return ops.bitwise_xor(word, ops.right_shift(word, ops.cast(16, "uint32")))
