"""Nodes of the pipeline `denoising`: noisy and incomplete test images, restored and compared.

`encoder` and `decoder` are Keras models, `training_summary` is that of their training: a node
refuses models that are not of it, with a ValueError.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from mnist_vae.data.contracts import check_models
from mnist_vae.data.images import IMAGE_SHAPE, N_PIXELS, ImageSet
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.data.origin import origin
from mnist_vae.data.sheets import captions, sheet, to_bytes
from mnist_vae.encoding.scores import standard_error
from mnist_vae.params import Corruption, DenoisingParams
from mnist_vae.pipelines.denoising.corruptions import corrupt, missing_pixels
from mnist_vae.pipelines.denoising.methods import (
    Autoencoder,
    Floats,
    biharmonic,
    median,
    non_local_means,
)
from mnist_vae.report.blocks import Findings, Picture, Section, Table, Text
from mnist_vae.report.evaluation import with_error

logger = logging.getLogger(__name__)

_EXAMPLES = 10  # images on a sheet
_SHOWN = ("noisy", "median", "refined")  # methods on the sheet of denoised images
_GREY = 0.3  # of a missing pixel, on a sheet
_MOST_DB = 100.0  # the PSNR of an image without any error would be infinite


def denoise_images(
    encoder: KerasModel,
    decoder: KerasModel,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    denoising_params: DenoisingParams,
    seed: int,
) -> tuple[pd.DataFrame, Image.Image]:
    """Return the scores of each method at each corruption, and a sheet of examples.

    The methods are `noisy`, the image as it is; the 3 x 3 `median`; `non-local means` of the
    strength that is best; `amortised`, decoded from the encoder's mean of the noisy
    image; and `refined`, the mean of the clean image under a q that is refined on the likelihood
    of the noisy one.

    Returns:
        A row a method of each kind and level: the mean PSNR over the images, dB, with its standard
        error, and the mean SSIM; and a sheet with a row a method of the middle level of each kind.
    """
    check_models(training_summary, encoder, decoder)
    clean, shown = _choose(test_images, denoising_params.max_images, seed, "denoised")
    model = Autoencoder(encoder, decoder, denoising_params, seed)
    rows, pictures = [], {"clean": clean[shown]}
    for kind, level in denoising_params.corruptions():
        noisy = corrupt(clean, kind, level, seed)
        for method, restored in _denoised(model, clean, noisy, kind, level).items():
            rows.append({"kind": kind, "level": level, "method": method, **score(clean, restored)})
            if level == denoising_params.shown(kind) and method in _SHOWN:
                pictures[f"{_words(kind)} {level:g}, {method}"] = restored[shown]
    scores = pd.DataFrame(rows).assign(**origin(training_summary))
    logger.info("%s %s", _in_words(scores, denoising_params), training_summary["statement"])
    note = "Refined: the mean of the clean image under a q(z) of its own, fitted to the noisy one"
    return scores, _sheet(pictures, "Denoised test images", note, training_summary)


def inpaint_images(
    encoder: KerasModel,
    decoder: KerasModel,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    denoising_params: DenoisingParams,
    seed: int,
) -> tuple[pd.DataFrame, Image.Image]:
    """Return the scores of each method where known pixels are missing, and a sheet of examples.

    Missing is the lower half of each image, or half of its pixels, drawn once for all images. The
    methods are `black`, nothing filled in; `biharmonic`; `amortised`, by the encoder's mean of the
    image with black in place of what is missing; and `refined`, by a q that is refined on the
    pixels that are there.

    Returns:
        A row a method of each kind: the mean PSNR of the missing pixels over the images, dB, with
        its standard error, and the mean SSIM of the whole images; and a sheet with a row a method.
    """
    from mnist_vae.pipelines.denoising.observation import MISSING, Observation

    check_models(training_summary, encoder, decoder)
    clean, shown = _choose(test_images, denoising_params.max_images, seed, "inpainted")
    model = Autoencoder(encoder, decoder, denoising_params, seed)
    rows, pictures = [], {"clean": clean[shown]}
    (random,) = missing_pixels(1, 0.5, seed)
    lower_half = np.arange(N_PIXELS) >= N_PIXELS // 2
    for kind, missing in {"lower_half": lower_half, "random_pixels": random}.items():
        black = np.where(missing, np.float32(0), clean)
        given = np.where(missing, np.float32(MISSING), clean)
        restored = {
            "black": black,
            "biharmonic": biharmonic(black, missing),
            "amortised": np.where(missing, model.amortised(black), clean),
            "refined": model.refined(given, Observation("inpainting")),
        }
        pictures[f"{_words(kind)}, given"] = np.where(missing, np.float32(_GREY), clean)[shown]
        for method, images in restored.items():
            scores = score(clean, images, where=missing)
            rows.append({"kind": kind, "level": 0.5, "method": method, **scores})
            if method in ("biharmonic", "refined"):
                pictures[f"{_words(kind)}, {method}"] = images[shown]
    note = "Grey is missing. Refined: under a q(z) that is fitted to the pixels that are there"
    table = pd.DataFrame(rows).assign(**origin(training_summary))
    return table, _sheet(pictures, "Inpainted test images", note, training_summary)


def describe_denoising(
    denoising_scores: pd.DataFrame,
    inpainting_scores: pd.DataFrame,
    denoising_sheet: Image.Image,
    inpainting_sheet: Image.Image,
    training_summary: dict[str, Any],
) -> Findings:
    """Return the section of the report: the sheets, and how near the images are to clean ones."""
    section = Section(
        key="denoising",
        title="Denoised images",
        blocks=(
            Picture.of(
                denoising_sheet,
                "Noisy test images, and what was made of them",
                "Test images in columns: clean, noisy, through a median filter, and refined.",
            ),
            _table(denoising_scores, "Noisy images restored"),
            Picture.of(
                inpainting_sheet,
                "Incomplete test images, and what was filled in",
                "Test images in columns: clean, what was given of them, and what was filled in.",
            ),
            _table(inpainting_scores, "Missing pixels filled in"),
            Text(
                text="PSNR in dB, ± the standard error, over "
                f"{denoising_scores['n_images'].iloc[0]:,} test images; more is better.",
                note=True,
            ),
        ),
    )
    return Findings.of(training_summary, section)


def score(
    clean: Floats, restored: Floats, where: NDArray[np.bool_] | None = None
) -> dict[str, float | int]:
    """Return the mean PSNR of images, dB, with its standard error, and their mean SSIM.

    An image without any error has 100 dB.

    Args:
        clean: Grey values in [0, 1], `[n, 784]`.
        restored: Likewise.
        where: The pixels that count for the PSNR, `[784]`; None for all.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    x, y = clean.astype(np.float64), restored.astype(np.float64)
    counted = slice(None) if where is None else where
    with np.errstate(divide="ignore"):
        ratios = [
            peak_signal_noise_ratio(one[counted], other[counted], data_range=1)
            for one, other in zip(x, y, strict=True)
        ]
    psnr = np.minimum(ratios, _MOST_DB)
    images, others = (values.reshape(-1, *IMAGE_SHAPE) for values in (x, y))
    return {
        "psnr": float(psnr.mean()),
        "psnr_se": standard_error(psnr),
        "ssim": float(structural_similarity(images, others, channel_axis=0, data_range=1)),
        "n_images": len(clean),
    }


def _denoised(
    model: Autoencoder, clean: Floats, noisy: Floats, kind: Corruption, level: float
) -> dict[str, Floats]:
    """Return what each method makes of noisy images; from clean ones it gets its strength only."""
    from mnist_vae.pipelines.denoising.observation import Observation

    return {
        "noisy": noisy,
        "median": median(noisy),
        "non-local means": non_local_means(noisy, clean),
        "amortised": model.amortised(noisy),
        "refined": model.refined(noisy, Observation(kind, level)),
    }


def _choose(
    images: ImageSet, count: int | None, seed: int, verb: str
) -> tuple[Floats, NDArray[np.intp]]:
    """Return at most `count` images, class by class, `[n, 784]`, and which ten are examples.

    The examples have one of each class first. The log says if the images are not all.
    """
    chosen = images.at_most(count, seed)
    if len(chosen) < len(images):
        logger.info(
            f"{count:,} of {len(images):,} test images are {verb}; `--params "
            "denoising.max_images=null` takes all."
        )
    first = np.empty(0, np.intp)
    if chosen.label is not None:
        _, first = np.unique(chosen.label, return_index=True)
    others = np.setdiff1d(np.arange(len(chosen)), first)
    return chosen.model_input(), np.concatenate([first, others])[:_EXAMPLES]


def _in_words(scores: pd.DataFrame, params: DenoisingParams) -> str:
    """Return the PSNR of refinement at the level that is drawn of each kind."""
    psnr = scores.set_index(["kind", "level", "method"])["psnr"]
    figures = [
        f"{_words(kind)} {level:g} {psnr[kind, level, 'refined']:.1f} dB "
        f"({psnr[kind, level, 'median']:.1f}, {psnr[kind, level, 'noisy']:.1f})"
        for kind, level in params.corruptions()
        if level == params.shown(kind)
    ]
    return f"Denoised by refinement (by a median, and as it was): {', '.join(figures)}."


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _sheet(
    pictures: dict[str, Floats], title: str, note: str, training_summary: dict[str, Any]
) -> Image.Image:
    """Return a sheet with a row of images `[n, 784]` under each caption."""
    rows = list(pictures)
    text = captions(
        training_summary,
        title,
        note=note,
        rows=rows,
    )
    breaks = [row for row in range(1, len(rows)) if rows[row].endswith((", noisy", ", given"))]
    pixels = to_bytes(np.concatenate(list(pictures.values())))
    return sheet(pixels, text, columns=len(pictures["clean"]), row_breaks=breaks)


def _table(scores: pd.DataFrame, caption: str) -> Table:
    """Return the PSNR, a row a corruption and a column a method."""
    methods = scores["method"].unique().tolist()
    rows = []
    for (kind, level), group in scores.groupby(["kind", "level"], sort=False):
        values = group.set_index("method")[["psnr", "psnr_se"]].to_dict("index")
        cells = (with_error(values[name]["psnr"], values[name]["psnr_se"]) for name in methods)
        rows.append((f"{_words(str(kind))} {level:g}", *cells))
    return Table(caption=caption, columns=("corruption", *methods), rows=tuple(rows))
