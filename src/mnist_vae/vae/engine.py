"""What Keras' own operations leave to its backend, and how images are fed to it.

The rest of this package knows neither TensorFlow nor JAX: it asks here.
"""

from __future__ import annotations

from mnist_vae.backend import JAX, backend_name

if backend_name() == JAX:
    from mnist_vae.vae.on_jax import (
        compiled,
        compiled_for_any_number,
        feed,
        gradients,
        has_gpu,
        repeat,
        uniform,
    )
else:
    from mnist_vae.vae.on_tensorflow import (
        compiled,
        compiled_for_any_number,
        feed,
        gradients,
        has_gpu,
        repeat,
        uniform,
    )

__all__ = [
    "compiled",
    "compiled_for_any_number",
    "feed",
    "gradients",
    "has_gpu",
    "repeat",
    "uniform",
]
