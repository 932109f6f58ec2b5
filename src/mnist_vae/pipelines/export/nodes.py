"""Export of a trained model."""

from __future__ import annotations

from typing import Any

import numpy as np

from mnist_vae.data.images import ImageSet
from mnist_vae.data.models import KerasModel, OnnxModel
from mnist_vae.data.origin import check_models

_CHECKED_IMAGES = 500


def export_models(
    encoder: KerasModel,
    decoder: KerasModel,
    training_summary: dict[str, Any],
    validation_images: ImageSet,
) -> tuple[KerasModel, OnnxModel, OnnxModel]:
    """Return the inference encoder, and encoder and decoder as ONNX, after a comparison with Keras.

    Raises:
        ValueError: Models and summary do not belong together.
        ValueError: A file differs from Keras by `vae.export.TOLERANCE` or more.
    """
    from mnist_vae.vae import export

    check_models(training_summary, encoder, decoder)
    metadata = {name: training_summary[name] for name in ("model_version", "reconstruction")}
    plain = export.inference_encoder(encoder)
    onnx_encoder = export.to_onnx(plain, metadata)
    onnx_decoder = export.to_onnx(decoder, metadata)
    pixels = validation_images.take(slice(_CHECKED_IMAGES)).model_input()
    export.check_onnx(onnx_encoder, plain, pixels)
    export.check_onnx(onnx_decoder, decoder, np.asarray(plain(pixels)[0]))
    return plain, onnx_encoder, onnx_decoder
