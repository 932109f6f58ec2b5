"""Noisy and incomplete test images, restored and compared with clean ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from mnist_vae.data.images import ImageSet, Shape, places
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import check_models, origin
from mnist_vae.data.sheets import sheet, to_bytes
from mnist_vae.data.statistics import standard_error
from mnist_vae.params import DenoisingParams
from mnist_vae.pipelines.denoising import methods
from mnist_vae.pipelines.denoising.corruptions import (
    MISSING,
    Floats,
    Observation,
    corrupt,
    uniform_noise,
)
from mnist_vae.report.figures import with_error
from mnist_vae.report.page import Findings, Picture, Section, Table, Text

_EXAMPLES = 10  # images on a sheet
_MISSING_SHARE = 0.5  # of the pixels, where they are filled in
_GREY = 0.3  # of a missing pixel, on a sheet
_LEAST_ERROR = 1e-10  # 100 dB: the PSNR of an image without any error would be infinite


class _Texts(NamedTuple):
    """What sheet and report call the images that were restored."""

    title: str
    note: str
    heading: str
    alt: str
    caption: str


_DENOISED = _Texts(
    "Denoised test images",
    "Refined: the mean of the clean image under a q(z) of its own, fitted to the noisy one",
    "Noisy test images, and what was made of them",
    "Test images in columns: clean, noisy, through a median filter, and refined.",
    "Noisy images restored",
)
_INPAINTED = _Texts(
    "Inpainted test images",
    "Grey is missing. Refined: under a q(z) that is fitted to the pixels that are there",
    "Incomplete test images, and what was filled in",
    "Test images in columns: clean, what was given of them, and what was filled in.",
    "Missing pixels filled in",
)


class _Case(NamedTuple):
    """Images after one corruption, `[n, pixels]` by method, and those that the sheet shows."""

    kind: str
    level: float
    name: str
    restored: dict[str, Floats]
    drawn: dict[str, Floats]
    where: Any = slice(None)
    """The pixels whose error is scored."""


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
    images = test_images.at_most(denoising_params.max_images, seed)
    model = methods.Autoencoder(encoder, decoder, denoising_params, seed)
    results: list[Any] = []
    blocks: list[Any] = []
    for restored, texts in ((_noisy, _DENOISED), (_incomplete, _INPAINTED)):
        cases = restored(model, images.model_input(), images.shape)
        scores, picture = _compare(images, cases, texts, training_summary)
        results += [scores, picture]
        blocks += [Picture.of(picture, texts.heading, texts.alt), _table(scores, texts.caption)]
    text = f"PSNR in dB, ± the standard error, over {len(images):,} test images; more is better."
    blocks.append(Text(text=text, note=True))
    section = Section(key="denoising", title="Denoised images", blocks=tuple(blocks))
    denoised, denoised_sheet, inpainted, inpainted_sheet = results
    findings = Findings.of(training_summary, section)
    return denoised, denoised_sheet, inpainted, inpainted_sheet, findings


def _noisy(model: methods.Autoencoder, clean: Floats, shape: Shape) -> Iterator[_Case]:
    for kind, level in model.params.corruptions():
        noisy = corrupt(clean, kind, level, model.seed, shape)
        restored = {
            "noisy": noisy,
            "median": methods.median(noisy, shape),
            "non-local means": methods.non_local_means(noisy, clean, shape),
            "amortised": model.amortised(noisy),
            "refined": model.refined(noisy, Observation(kind, level, shape)),
        }
        shown = ("noisy", "median", "refined") if level == model.params.shown(kind) else ()
        drawn = {method: restored[method] for method in shown}
        yield _Case(kind, level, f"{_words(kind)} {level:g}", restored, drawn)


def _incomplete(model: methods.Autoencoder, clean: Floats, shape: Shape) -> Iterator[_Case]:
    n_pixels = clean.shape[1]
    lower_half = np.arange(n_pixels) >= (1 - _MISSING_SHARE) * n_pixels
    random_pixels = uniform_noise((n_pixels,), model.seed) < _MISSING_SHARE
    for kind, missing in {"lower_half": lower_half, "random_pixels": random_pixels}.items():
        black, given, grey = (
            np.where(missing, np.float32(value), clean) for value in (0, MISSING, _GREY)
        )
        restored = {
            "black": black,
            "biharmonic": methods.biharmonic(black, missing, shape),
            "amortised": np.where(missing, model.amortised(black), clean),
            "refined": model.refined(given, Observation("inpainting")),
        }
        drawn = {"given": grey, **{name: restored[name] for name in ("biharmonic", "refined")}}
        yield _Case(kind, _MISSING_SHARE, _words(kind), restored, drawn, missing)


def _compare(
    images: ImageSet, cases: Iterator[_Case], texts: _Texts, training_summary: dict[str, Any]
) -> tuple[pd.DataFrame, Image.Image]:
    """Return the scores of all methods, and a sheet of examples, of every class if it can be."""
    clean = images.model_input()
    label = np.zeros(len(images)) if images.label is None else images.label
    examples = np.lexsort((label, places(label)))[:_EXAMPLES]
    scores, drawn, breaks = [], {"clean": clean[examples]}, []
    for case in tqdm(cases, texts.title, unit=" cases", leave=False, disable=None):
        about = {"kind": case.kind, "level": case.level}
        for method, restored in case.restored.items():
            found = score(clean, restored, images.shape, case.where)
            scores.append({**about, "method": method, **found})
        if case.drawn:
            breaks.append(len(drawn))
        drawn |= {f"{case.name}, {what}": rows[examples] for what, rows in case.drawn.items()}
    pixels = to_bytes(np.concatenate(list(drawn.values())), images.shape)
    picture = sheet(
        pixels,
        training_summary,
        texts.title,
        columns=len(examples),
        note=texts.note,
        row_names=list(drawn),
        row_breaks=breaks,
    )
    return pd.DataFrame(scores).assign(**origin(training_summary)), picture


def score(
    clean: Floats, restored: Floats, shape: Shape, where: NDArray[np.bool_] | slice = slice(None)
) -> dict[str, float | int]:
    """Return the mean PSNR of images, dB, with its standard error, and their mean SSIM.

    Images are grey values in [0, 1], `[n, height·width]`; PSNR is over the pixels `where`.
    """
    from skimage.metrics import structural_similarity

    x, y = clean.astype(np.float64), restored.astype(np.float64)
    errors = np.square(x - y)[:, where].mean(axis=1)
    psnr = -10 * np.log10(np.maximum(errors, _LEAST_ERROR))
    images, others = (values.reshape(-1, *shape) for values in (x, y))
    return {
        "psnr": float(psnr.mean()),
        "psnr_se": standard_error(float(psnr.var()), len(psnr)),
        "ssim": float(structural_similarity(images, others, channel_axis=0, data_range=1)),
        "n_images": len(clean),
    }


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _table(scores: pd.DataFrame, caption: str) -> Table:
    """Return the PSNR, a row a corruption and a column a method."""
    rows = []
    for (kind, level), group in scores.groupby(["kind", "level"], sort=False):
        cells = map(with_error, group["psnr"], group["psnr_se"])
        rows.append((f"{_words(str(kind))} {level:g}", *cells))
    columns = ("corruption", *scores["method"].unique())
    return Table(caption=caption, columns=columns, rows=tuple(rows))
