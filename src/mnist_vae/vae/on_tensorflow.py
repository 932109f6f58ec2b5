"""The engine on TensorFlow, the default."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

Function = Callable[..., Any]


def compiled(function: Function) -> Function:
    """Return the function compiled by XLA, anew for each shape of its arguments."""
    # A partial each: TensorFlow would take several for one that it compiles too often. Nothing
    # here branches by Python on a tensor; to look for that is half the time of tracing.
    compiled_: Function = tf.function(
        functools.partial(function), jit_compile=True, autograph=False
    )
    return compiled_


def compiled_for_any_number(function: Function, width: int) -> Function:
    """Return the function of float32 `[n, width]` compiled, once for every n."""
    any_number = tf.TensorSpec((None, width), tf.float32)
    compiled_: Function = tf.function(
        functools.partial(function), input_signature=[any_number], autograph=False
    )
    return compiled_


def gradients(function: Function, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the gradient of a function's scalar by each of its arguments."""
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        value = function(*arguments)
    found: tuple[Any, ...] = tape.gradient(value, arguments)
    return found


def repeat(steps: int, step: Function, state: Sequence[Any]) -> tuple[Any, ...]:
    """Return `state` after as many times `state = step(number, *state)`, in a compiled function."""

    def next_(number: Any, *state: Any) -> Any:
        return number + 1, *step(number, *state)

    start = (tf.constant(0), *state)
    found: tuple[Any, ...] = tf.while_loop(lambda number, *_: number < steps, next_, start)[1:]
    return found


def uniform(shape: Sequence[int], seed: int, number: Any) -> Any:
    """Return numbers in [0, 1), float32, that seed and number alone determine."""
    return tf.random.stateless_uniform(shape, [seed, number])


def has_gpu() -> bool:
    """Return whether there is a GPU to compute on."""
    return bool(tf.config.list_physical_devices("GPU"))


def feed(
    batch_of: Callable[[int], Any], count: int, pixels: int, dtype: np.dtype[Any]
) -> tf.data.Dataset:
    """Return batches for Keras, float32 in [0, 1], each asked for between two steps.

    The images stay where they are until then: on few cores threads of its own would only be in
    the way of the step's.

    Args:
        batch_of: Returns the batch of a number, `[batch, pixels]`.
        count: How many batches there are.
        pixels: Pixels an image.
        dtype: That of the batches: uint8, or float32 in [0, 1].
    """
    kind = tf.as_dtype(dtype)

    def batch(index: Any) -> Any:
        images = tf.numpy_function(batch_of, [index], kind)
        images = tf.ensure_shape(images, (None, pixels))
        return tf.cast(images, tf.float32) / 255.0 if kind == tf.uint8 else images

    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return tf.data.Dataset.range(count).map(batch).with_options(options)
