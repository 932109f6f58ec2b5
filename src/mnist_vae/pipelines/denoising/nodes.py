"""Nodes of the pipeline `denoising`. The figures are `plotly.graph_objects.Figure`.

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

from mnist_vae.data.contracts import check_models, check_versions
from mnist_vae.data.images import N_PIXELS, ImageSet
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.data.origin import origin, statement
from mnist_vae.data.sheets import Captions, sheet
from mnist_vae.params import Corruption, DenoisingParams
from mnist_vae.pipelines.denoising.corruptions import corrupt, missing_pixels
from mnist_vae.pipelines.denoising.methods import (
    Autoencoder,
    biharmonic,
    median,
    non_local_means,
)
from mnist_vae.pipelines.denoising.scores import row_of, table_of
from mnist_vae.pipelines.generation.coding import to_bytes
from mnist_vae.report.figures import entitle

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_EXAMPLES = 10  # images on a sheet
_SHOWN = ("noisy", "median", "refined")  # methods on the sheet of denoised images
_GREY = 0.3  # of a missing pixel, on a sheet
_LEVELS = {
    "gaussian": "σ, in grey values",
    "salt_and_pepper": "share of pixels",
    "masking": "share of pixels",
    "blur": "σ, in pixels",
}
_COLOURS = {
    "noisy": "#888888",
    "median": "#e69f00",
    "non-local means": "#009e73",
    "amortised": "#56b4e9",
    "refined": "#d55e00",
}


def denoise_images(
    encoder: KerasModel,
    decoder: KerasModel,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    denoising_params: DenoisingParams,
    seed: int,
) -> tuple[pd.DataFrame, ImageSet]:
    """Return the scores of each method at each corruption, and examples of the images.

    The methods are `noisy`, the image as it is; the 3 x 3 `median`; `non-local means` of the
    strength that is best; `amortised`, decoded from the encoder's mean of the noisy
    image; and `refined`, the mean of the clean image under a q that is refined on the likelihood
    of the noisy one.

    Returns:
        A row a method of each kind and level: the mean PSNR over the images, dB, with its standard
        error, and the mean SSIM; and a row of images a method of the middle level of each kind.
    """
    check_models(training_summary, encoder, decoder)
    clean, shown = _choose(test_images, denoising_params.max_images, seed, "denoised")
    model = Autoencoder(encoder, decoder, denoising_params, seed)
    rows, pictures = [], {"clean": clean[shown]}
    for kind, level in denoising_params.corruptions():
        noisy = corrupt(clean, kind, level, seed)
        for method, restored in _denoised(model, clean, noisy, kind, level).items():
            rows.append({"kind": kind, "level": level, "method": method, **row_of(clean, restored)})
            if level == denoising_params.shown(kind) and method in _SHOWN:
                pictures[f"{_words(kind)} {level:g}, {method}"] = restored[shown]
    about = origin(training_summary)
    scores = table_of(rows, about)
    logger.info("%s %s", _in_words(scores, denoising_params), training_summary["statement"])
    return scores, _as_images(pictures, about)


def inpaint_images(
    encoder: KerasModel,
    decoder: KerasModel,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    denoising_params: DenoisingParams,
    seed: int,
) -> tuple[pd.DataFrame, ImageSet]:
    """Return the scores of each method where known pixels are missing, and examples.

    Missing is the lower half of each image, or half of its pixels, drawn once for all images. The
    methods are `black`, nothing filled in; `biharmonic`; `amortised`, by the encoder's mean of the
    image with black in place of what is missing; and `refined`, by a q that is refined on the
    pixels that are there.

    Returns:
        A row a method of each kind: the mean PSNR of the missing pixels over the images, dB, with
        its standard error, and the mean SSIM of the whole images; and a row of images a method.
    """
    from mnist_vae.pipelines.denoising.observation import MISSING, Observation

    check_models(training_summary, encoder, decoder)
    clean, shown = _choose(test_images, denoising_params.max_images, seed, "inpainted")
    model = Autoencoder(encoder, decoder, denoising_params, seed)
    rows, pictures = [], {"clean": clean[shown]}
    (random,) = missing_pixels(1, 0.5, seed)
    for kind, missing in {"lower_half": _lower_half(), "random_pixels": random}.items():
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
            scores = row_of(clean, images, where=missing)
            rows.append({"kind": kind, "level": 0.5, "method": method, **scores})
            if method in ("biharmonic", "refined"):
                pictures[f"{_words(kind)}, {method}"] = images[shown]
    about = origin(training_summary)
    return table_of(rows, about), _as_images(pictures, about)


def draw_denoising_sheet(
    denoised_examples: ImageSet, training_summary: dict[str, Any]
) -> Image.Image:
    """Return a sheet of test images, each above the noisy ones and what was made of them."""
    return _sheet(
        denoised_examples,
        "Denoised test images",
        "Refined: the mean of the clean image under a q(z) of its own, fitted to the noisy one",
        training_summary,
    )


def draw_inpainting_sheet(
    inpainted_examples: ImageSet, training_summary: dict[str, Any]
) -> Image.Image:
    """Return a sheet of test images, each above what was given of it and what was filled in."""
    return _sheet(
        inpainted_examples,
        "Inpainted test images",
        "Grey is missing. Refined: under a q(z) that is fitted to the pixels that are there",
        training_summary,
    )


def draw_denoising_psnr(denoising_scores: pd.DataFrame, training_summary: dict[str, Any]) -> Any:
    """Return a figure of the PSNR of each method over the level of each corruption.

    Raises:
        ValueError: The scores are not of the model that the summary tells of.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    check_versions(
        "The scores are not of the model in use",
        denoising_scores["model_version"].unique(),
        training_summary,
        "run `kedro run --pipelines denoising` as a whole",
    )
    kinds = denoising_scores["kind"].unique().tolist()
    titles = [_words(kind) for kind in kinds]
    figure = make_subplots(rows=1, cols=len(kinds), shared_yaxes=True, subplot_titles=titles)
    for column, kind in enumerate(kinds, start=1):
        of_kind = denoising_scores[denoising_scores["kind"] == kind]
        for method, colour in _COLOURS.items():
            rows = of_kind[of_kind["method"] == method].sort_values("level")
            curve = go.Scatter(
                x=rows["level"].tolist(),
                y=rows["psnr"].round(3).tolist(),
                error_y={"array": (2 * rows["psnr_se"]).round(3).tolist()},
                name=method,
                legendgroup=method,
                showlegend=column == 1,
                mode="lines+markers",
                line={"color": colour, "width": 2},
                hovertemplate="level %{x}: %{y:.2f} dB",
            )
            figure.add_trace(curve, row=1, col=column)
        figure.update_xaxes(title_text=_LEVELS[kind], row=1, col=column)
    figure.update_yaxes(title_text="PSNR, dB, ± twice the standard error", row=1, col=1)
    entitle(
        figure,
        f"Denoising of {denoising_scores['n_images'].iloc[0]:,} test images",
        statement(training_summary),
        height=520,
    )
    figure.update_layout(meta=origin(training_summary))
    return figure


def _denoised(
    model: Autoencoder, clean: Floats, noisy: Floats, kind: Corruption, level: float
) -> dict[str, Floats]:
    """Return what each method makes of noisy images; of clean ones one is told, its strength."""
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
    """Return at most `count` images, class by class, `[n, 784]`, and which of them are examples.

    It is said if they are not all.
    """
    chosen = images.at_most(count, seed)
    if len(chosen) < len(images):
        logger.info(
            f"{count:,} of {len(images):,} test images are {verb}; `--params "
            "denoising.max_images=null` takes all."
        )
    return chosen.model_input(), _examples(chosen)


def _examples(images: ImageSet) -> NDArray[np.intp]:
    """Return rows of at most ten images, one of each class first."""
    if images.label is None:
        return np.arange(min(_EXAMPLES, len(images)))
    _, first = np.unique(images.label, return_index=True)
    others = np.setdiff1d(np.arange(len(images)), first)
    return np.concatenate([first, others])[:_EXAMPLES]


def _in_words(scores: pd.DataFrame, params: DenoisingParams) -> str:
    """Return the PSNR of refinement at the level that is drawn of each kind."""
    psnr = scores.set_index(["kind", "level", "method"])["psnr"]
    told = [
        f"{_words(kind)} {level:g} {psnr[kind, level, 'refined']:.1f} dB "
        f"({psnr[kind, level, 'median']:.1f}, {psnr[kind, level, 'noisy']:.1f})"
        for kind, level in params.corruptions()
        if level == params.shown(kind)
    ]
    return f"Denoised by refinement (by a median, and as it was): {', '.join(told)}."


def _lower_half() -> NDArray[np.bool_]:
    return np.arange(N_PIXELS) >= N_PIXELS // 2


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _as_images(pictures: dict[str, Floats], about: dict[str, str]) -> ImageSet:
    """Return images by the caption of their row, as bytes; the caption is their `split`."""
    pixels = np.concatenate(list(pictures.values()))
    return ImageSet(
        pixels=to_bytes(pixels).reshape(-1, N_PIXELS),
        image_id=np.arange(len(pixels)),
        split=np.repeat(list(pictures), [len(images) for images in pictures.values()]),
        origin=about,
    )


def _sheet(
    examples: ImageSet, title: str, note: str, training_summary: dict[str, Any]
) -> Image.Image:
    rows = list(dict.fromkeys(examples.split.tolist()))
    captions = Captions(
        title=title,
        statement=statement(training_summary),
        origin=origin(training_summary),
        note=note,
        rows=rows,
    )
    breaks = [row for row in range(1, len(rows)) if rows[row].endswith((", noisy", ", given"))]
    return sheet(examples.pictures, captions, columns=len(examples) // len(rows), row_breaks=breaks)
