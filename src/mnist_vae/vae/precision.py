"""Training in bfloat16: the large matrix products in half the bits, everything else in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from mnist_vae.vae import engine

_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "avx_ne_convert"}
# The code, and what is computed from it, has more digits than bfloat16: a posterior of MNIST is
# a hundredth of the code's range wide, as far apart as two numbers of bfloat16 are there.
_EXACT = {("encoder", "z_mean"), ("encoder", "z_log_var"), ("decoder", "hidden_1")}


class PrecisionError(ValueError):
    """A precision that would make training slower, not faster, on this machine."""


@contextmanager
def computing_in(precision: str, *models: keras.Model) -> Iterator[None]:
    """Compute the dense layers of models in `precision` while the context lasts.

    The weights stay float32, and so does what is saved of the models. Layers that make the code, or
    take it, compute in float32 in any case.

    Args:
        precision: `float32` or `bfloat16`.
        *models: Encoder and decoder, by these names.
    """
    if precision == "float32":
        yield
        return
    layers = [
        layer
        for model in models
        for layer in model.layers
        if isinstance(layer, keras.layers.Dense) and (model.name, layer.name) not in _EXACT
    ]
    before = [layer.dtype_policy for layer in layers]
    for layer in layers:
        layer.dtype_policy = keras.DTypePolicy(f"mixed_{precision}")
    try:
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy


def check_precision(precision: str, *, jit_compile: bool) -> None:
    """Refuse bfloat16 where it would only be slower.

    Args:
        precision: `float32` or `bfloat16`.
        jit_compile: Whether XLA compiles the step, whose products of bfloat16 are no faster on a
            CPU than those of float32.

    Raises:
        PrecisionError: No GPU is there, and the processor has no instructions for bfloat16, or XLA
            compiles the step.
    """
    if precision == "float32" or engine.has_gpu():
        return
    if not _cpu_flags() & _CPU_FLAGS:
        raise PrecisionError(
            "Training in bfloat16 would be slower here: expected a GPU, or a processor with one of "
            f"the instructions {', '.join(sorted(_CPU_FLAGS))}, received one without; set "
            "`training.precision` to float32."
        )
    if jit_compile:
        raise PrecisionError(
            "Training in bfloat16 would be slower here, as XLA has no fast products of it for a "
            "processor: expected `training.jit_compile` to be false beside it, received true; set "
            "that to false, or `training.precision` to float32."
        )


def _cpu_flags() -> set[str]:
    """Return what the processor can do, as Linux tells it; nothing elsewhere."""
    try:
        return set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return set()
