"""The engine on JAX. Functions that it compiles keep the weights of their first call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import keras
import numpy as np

Function = Callable[..., Any]


def compiled(function: Function) -> Function:
    """Return the function compiled by XLA, anew for each shape of its arguments."""
    compiled_: Function = jax.jit(function)
    return compiled_


def compiled_for_any_number(function: Function, width: int) -> Function:  # noqa: ARG001
    """Return the function of float32 `[n, width]` compiled, here for each n."""
    return compiled(function)


def gradients(function: Function, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the gradient of a function's scalar by each of its arguments."""
    found: tuple[Any, ...] = jax.grad(function, argnums=tuple(range(len(arguments))))(*arguments)
    return found


def repeat(steps: int, step: Function, state: Sequence[Any]) -> tuple[Any, ...]:
    """Return `state` after as many times `state = step(number, *state)`, in a compiled function."""
    found: tuple[Any, ...] = jax.lax.fori_loop(
        0, steps, lambda number, state: tuple(step(number, *state)), tuple(state)
    )
    return found


def uniform(shape: Sequence[int], seed: int, number: Any) -> Any:
    """Return numbers in [0, 1), float32, that seed and number alone determine."""
    return jax.random.uniform(jax.random.fold_in(jax.random.key(seed), number), shape)


def has_gpu() -> bool:
    """Return whether there is a GPU to compute on."""
    return jax.default_backend() == "gpu"


class _Feed(keras.utils.PyDataset):
    def __init__(self, batch_of: Callable[[int], Any], count: int) -> None:
        super().__init__()  # one worker, which is no thread: each is asked for between two steps
        self._batch_of = batch_of
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Any]:
        images = self._batch_of(index)
        if images.dtype == np.uint8:
            images = images.astype(np.float32) / np.float32(255)
        return (images,)


def feed(
    batch_of: Callable[[int], Any],
    count: int,
    pixels: int,  # noqa: ARG001
    dtype: np.dtype[Any],  # noqa: ARG001
) -> keras.utils.PyDataset:
    """Return batches for Keras, float32 in [0, 1], each asked for between two steps.

    Args:
        batch_of: Returns the batch of a number, `[batch, pixels]`.
        count: How many batches there are.
        pixels: Pixels an image.
        dtype: That of the batches: uint8, or float32 in [0, 1].
    """
    return _Feed(batch_of, count)
