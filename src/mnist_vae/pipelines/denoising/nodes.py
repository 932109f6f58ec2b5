"""Noisy and incomplete test images, restored and compared with clean ones."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from mnist_vae.data.images import ImageSet, Shape
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import check_models, image_shape, origin
from mnist_vae.data.sheets import captions, sheet, to_bytes
from mnist_vae.data.statistics import standard_error
from mnist_vae.params import DenoisingParams
from mnist_vae.pipelines.denoising.corruptions import (
    MISSING,
    Floats,
    Observation,
    corrupt,
    uniform_noise,
)
from mnist_vae.pipelines.denoising.methods import (
    amortised,
    biharmonic,
    median,
    non_local_means,
    refined,
)
from mnist_vae.report.blocks import Findings, Picture, Section, Table, Text
from mnist_vae.report.evaluation import with_error

logger = logging.getLogger(__name__)

_EXAMPLES = 10  # images on a sheet
_SHOWN = ("noisy", "median", "refined")  # methods on the sheet of denoised images
_MISSING_SHARE = 0.5  # of the pixels, where they are filled in
_GREY = 0.3  # of a missing pixel, on a sheet
_DENOISED = "Refined: the mean of the clean image under a q(z) of its own, fitted to the noisy one"
_INPAINTED = "Grey is missing. Refined: under a q(z) that is fitted to the pixels that are there"
_HOW_TO_READ = "PSNR in dB, ± the standard error, over {:,} test images; more is better."
_LEAST_ERROR = 1e-10  # 100 dB: the PSNR of an image without any error would be infinite


class _Model(NamedTuple):
    """A trained model, and how it restores images."""

    encoder: KerasModel
    decoder: KerasModel
    params: DenoisingParams
    seed: int


def restore_images(
    encoder: KerasModel,
    decoder: KerasModel,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    denoising_params: DenoisingParams,
    seed: int,
) -> tuple[pd.DataFrame, Image.Image, pd.DataFrame, Image.Image, Findings]:
    """Return scores and a sheet of denoised, then of inpainted images, and the report's section.

    Of noisy images each level of each kind is scored, and the middle levels are on the sheet. Known
    to be missing is the lower half of each image, or half of its pixels, the same of all images;
    PSNR is then that of the missing pixels, SSIM that of the whole images.

    Raises:
        ValueError: Encoder or decoder are not of the training of the summary.
    """
    check_models(training_summary, encoder, decoder)
    clean, shown = _choose(test_images, denoising_params.max_images, seed)
    model = _Model(encoder, decoder, denoising_params, seed)
    made: list[Any] = []
    for restore, title, note in (
        (_denoise, "Denoised test images", _DENOISED),
        (_inpaint, "Inpainted test images", _INPAINTED),
    ):
        rows, pictures = restore(model, clean, test_images.shape)
        examples = {name: images[shown] for name, images in {"clean": clean, **pictures}.items()}
        made.append(pd.DataFrame(rows).assign(**origin(training_summary)))
        made.append(_sheet(examples, title, note, training_summary))
    denoised, denoised_sheet, inpainted, inpainted_sheet = made
    results = denoised, denoised_sheet, inpainted, inpainted_sheet
    return *results, _findings(*results, training_summary)


def _denoise(
    model: _Model, clean: Floats, shape: Shape
) -> tuple[list[dict[str, Any]], dict[str, Floats]]:
    encoder, decoder, params, seed = model
    rows, pictures = [], {}
    for kind, level in params.corruptions():
        noisy = corrupt(clean, kind, level, seed, shape)
        observation = Observation(kind, level, shape)
        restored = {
            "noisy": noisy,
            "median": median(noisy, shape),
            "non-local means": non_local_means(noisy, clean, shape),
            "amortised": amortised(encoder, decoder, noisy),
            "refined": refined(encoder, decoder, noisy, observation, params, seed),
        }
        for method, images in restored.items():
            scores = score(clean, images, shape)
            rows.append({"kind": kind, "level": level, "method": method, **scores})
            if level == params.shown(kind) and method in _SHOWN:
                pictures[f"{_words(kind)} {level:g}, {method}"] = images
    return rows, pictures


def _inpaint(
    model: _Model, clean: Floats, shape: Shape
) -> tuple[list[dict[str, Any]], dict[str, Floats]]:
    encoder, decoder, params, seed = model
    rows, pictures, n_pixels = [], {}, clean.shape[1]
    lower_half = np.arange(n_pixels) >= (1 - _MISSING_SHARE) * n_pixels
    random_pixels = uniform_noise((n_pixels,), seed) < _MISSING_SHARE
    observation = Observation("inpainting")
    for kind, missing in {"lower_half": lower_half, "random_pixels": random_pixels}.items():
        black, given, grey = (
            np.where(missing, np.float32(value), clean) for value in (0, MISSING, _GREY)
        )
        restored = {
            "black": black,
            "biharmonic": biharmonic(black, missing, shape),
            "amortised": np.where(missing, amortised(encoder, decoder, black), clean),
            "refined": refined(encoder, decoder, given, observation, params, seed),
        }
        pictures[f"{_words(kind)}, given"] = grey
        for method, images in restored.items():
            scores = score(clean, images, shape, where=missing)
            rows.append({"kind": kind, "level": _MISSING_SHARE, "method": method, **scores})
            if method in ("biharmonic", "refined"):
                pictures[f"{_words(kind)}, {method}"] = images
    return rows, pictures


def _findings(
    denoising_scores: pd.DataFrame,
    denoising_sheet: Image.Image,
    inpainting_scores: pd.DataFrame,
    inpainting_sheet: Image.Image,
    training_summary: dict[str, Any],
) -> Findings:
    """Return the section of the report: the sheets, and how near the images are to clean ones."""
    blocks = (
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
        Text(text=_HOW_TO_READ.format(denoising_scores["n_images"].iloc[0]), note=True),
    )
    section = Section(key="denoising", title="Denoised images", blocks=blocks)
    return Findings.of(training_summary, section)


def score(
    clean: Floats, restored: Floats, shape: Shape, where: NDArray[np.bool_] | None = None
) -> dict[str, float | int]:
    """Return the mean PSNR of images, dB, with its standard error, and their mean SSIM.

    Images are grey values in [0, 1], `[n, height·width]`; PSNR is over the pixels `where`, or all.
    """
    from skimage.metrics import structural_similarity

    x, y = clean.astype(np.float64), restored.astype(np.float64)
    errors = np.square(x - y)[:, slice(None) if where is None else where].mean(axis=1)
    psnr = -10 * np.log10(np.maximum(errors, _LEAST_ERROR))
    images, others = (values.reshape(-1, *shape) for values in (x, y))
    return {
        "psnr": float(psnr.mean()),
        "psnr_se": standard_error(psnr),
        "ssim": float(structural_similarity(images, others, channel_axis=0, data_range=1)),
        "n_images": len(clean),
    }


def _choose(images: ImageSet, count: int | None, seed: int) -> tuple[Floats, NDArray[np.intp]]:
    """Return at most `count` images, class by class, `[n, pixels]`, and which ten are examples."""
    chosen = images.at_most(count, seed)
    if len(chosen) < len(images):
        logger.info(
            f"{count:,} of {len(images):,} test images are restored; `--params "
            "denoising.max_images=null` takes all."
        )
    first = np.empty(0, np.intp)
    if chosen.label is not None:
        _, first = np.unique(chosen.label, return_index=True)
    others = np.setdiff1d(np.arange(len(chosen)), first)
    return chosen.model_input(), np.concatenate([first, others])[:_EXAMPLES]


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _sheet(
    pictures: dict[str, Floats], title: str, note: str, training_summary: dict[str, Any]
) -> Image.Image:
    rows = list(pictures)
    text = captions(training_summary, title, note=note, rows=rows)
    breaks = [row for row in range(1, len(rows)) if rows[row].endswith((", noisy", ", given"))]
    pixels = to_bytes(np.concatenate(list(pictures.values())), image_shape(training_summary))
    return sheet(pixels, text, columns=len(pictures["clean"]), row_breaks=breaks)


def _table(scores: pd.DataFrame, caption: str) -> Table:
    """Return the PSNR, a row a corruption and a column a method."""
    methods = scores["method"].unique().tolist()
    rows = []
    for (kind, level), group in scores.groupby(["kind", "level"], sort=False):
        cells = map(with_error, group["psnr"], group["psnr_se"])
        rows.append((f"{_words(str(kind))} {level:g}", *cells))
    return Table(caption=caption, columns=("corruption", *methods), rows=tuple(rows))
