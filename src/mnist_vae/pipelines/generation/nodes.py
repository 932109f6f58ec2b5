"""Nodes of the pipeline `generation`.

`encoder` and `decoder` are Keras models: pixels float32 `[n, 784]` in [0, 1] to `z_mean`,
`z_log_var` and `z`, each `[n, latent_dim]`, and `[n, latent_dim]` to pixels. `training_summary` is
that of their training.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_vae.data.contracts import check_images, check_models
from mnist_vae.data.images import IMAGE_SHAPE, N_PIXELS, ImageSet
from mnist_vae.data.keras_model import KerasModel
from mnist_vae.data.maps import AT_ONCE
from mnist_vae.data.origin import origin
from mnist_vae.data.sheets import captions, sheet, to_bytes
from mnist_vae.params import GenerationParams
from mnist_vae.pipelines.generation.samplers import fit_sampler, interpolate

_SHEET_ROWS = 30  # of generated images at most; a longer sheet is no longer looked at
_RECONSTRUCTION_COLUMNS = 10
_SHEET_DIMENSIONS = 2
_BATCH_SIZE = 1024
_WAYS = {
    "linear": "Decoded from (1 - t) z_mean of the left original + t z_mean of the right one",
    "spherical": "Decoded from z on the arc from z_mean of the left original to that of the right "
    "one, at the share t of the angle between them",
}


def generate_images(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    training_summary: dict[str, Any],
    generation_params: GenerationParams,
    seed: int,
) -> ImageSet:
    """Return images decoded from z of the sampler, with their z.

    The training images are encoded only where a mixture is fitted on their z. A class mixture gives
    each image the label that it was drawn for.

    Raises:
        ValueError: Models or training images are not those of the training; or classes are asked
            for that the training images do not have.
    """
    check_models(training_summary, encoder, decoder)
    if generation_params.sampler != "prior":
        check_images(training_summary, train_images)
    sampler = fit_sampler(
        generation_params.sampler,
        encoder,
        train_images,
        components=generation_params.mixture_components,
        temperature=generation_params.temperature,
        seed=seed,
    )
    draws = sampler.sample(generation_params.n_images, seed, generation_params.label)
    return ImageSet(
        pixels=decode(decoder, draws.z).reshape(-1, N_PIXELS),
        image_id=np.arange(len(draws.z)),
        split=np.full(len(draws.z), "generated"),
        label=draws.label,
        z=draws.z,
        origin=origin(training_summary) | _described(generation_params),
    )


def to_pictures(images: ImageSet, training_summary: dict[str, Any]) -> dict[str, Image.Image]:
    """Return `images` as pictures by image id: "0000", "0001", ...

    They are white on black, as MNIST itself, so that the files can stand in for its images.
    """
    digits = max(4, len(str(images.image_id.max())))
    pictures = {}
    for image_id, image in zip(images.image_id, images.pictures, strict=True):
        picture = Image.fromarray(image)
        picture.info.update(origin(training_summary))
        pictures[f"{image_id:0{digits}d}"] = picture
    return pictures


def draw_generated_sheet(
    generated_images: ImageSet,
    training_summary: dict[str, Any],
    generation_params: GenerationParams,
) -> Image.Image:
    """Return a sheet of the generated images."""
    columns = min(generation_params.grid_columns, len(generated_images))
    shown = generated_images.take(slice(columns * _SHEET_ROWS))
    count = f"{len(shown):,}"
    if len(shown) < len(generated_images):
        count = f"The first {count} of {len(generated_images):,}"
    title = "Generated images"
    if generation_params.label is not None:
        title = f"Generated images of class {generation_params.label}"
    text = captions(
        training_summary,
        title,
        note=f"{count} image{'s' * (len(generated_images) > 1)}, decoded from z "
        f"{_drawn_from(generation_params)}",
    )
    return sheet(shown.pictures, text, columns=columns)


def _described(params: GenerationParams) -> dict[str, str]:
    """Return what is said of the images wherever they are shown."""
    of_class = {} if params.label is None else {"class": str(params.label)}
    return {"drawn_from": _drawn_from(params), **of_class}


def _drawn_from(params: GenerationParams) -> str:
    """Return the words for the distribution of z."""
    cooled = "" if params.temperature == 1 else f", at the temperature {params.temperature:g}"
    return {
        "prior": "~ N(0, I)",
        "mixture": "of a Gaussian mixture fitted on z of the training images",
        "class_mixture": "of a Gaussian mixture for each class, fitted on z of the training images",
    }[params.sampler] + cooled


def draw_latent_manifold(
    encoder: KerasModel,
    decoder: KerasModel,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    generation_params: GenerationParams,
) -> Image.Image:
    """Return a sheet of the images that the decoder makes of a regular grid of z.

    The grid's coordinates are the quantiles (i + ½)/n of N(0, 1), so that every image stands for
    an equal share of the prior. z rises to the right and upwards. With more than two latent
    dimensions the grid is the plane of the two whose mean varies most over the test images.
    """
    latent_dim = decoder.input_shape[-1]
    steps = generation_params.manifold_steps
    quantiles = [NormalDist().inv_cdf((step + 0.5) / steps) for step in range(steps)]
    values = [f"{quantile:.2f}" for quantile in quantiles]
    note = "Decoded from z at equidistant quantiles of the prior N(0, I)"
    if latent_dim == 1:
        z = np.array(quantiles, np.float32)[:, np.newaxis]
        text = captions(
            training_summary,
            "Latent manifold",
            note=note,
            columns=values,
            x_axis="z_00",
        )
        return sheet(decode(decoder, z), text, columns=steps)
    title = "Latent manifold"
    x, y = 0, 1
    if latent_dim > _SHEET_DIMENSIONS:
        z_mean = encode(encoder, test_images.at_most(AT_ONCE, seed=0).model_input())
        x, y = sorted(np.argsort(-z_mean.var(axis=0), kind="stable")[:_SHEET_DIMENSIONS])
        title += f": the plane of z_{x:02d} and z_{y:02d}"
        note += (
            f"; of {latent_dim} dimensions the two whose mean varies most over the test images, "
            "the others at 0"
        )
    z = np.zeros((steps * steps, latent_dim), np.float32)
    z[:, x] = np.tile(quantiles, steps)
    z[:, y] = np.repeat(quantiles[::-1], steps)
    text = captions(
        training_summary,
        title,
        note=note,
        columns=values,
        rows=values[::-1],
        x_axis=f"z_{x:02d}",
        y_axis=f"z_{y:02d}",
    )
    return sheet(decode(decoder, z), text, columns=steps)


def draw_interpolations(
    encoder: KerasModel,
    decoder: KerasModel,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    generation_params: GenerationParams,
    seed: int,
) -> Image.Image:
    """Return a sheet with a row a pair of test images: from one latent mean to the other.

    The originals stand at both edges. No image is in two pairs, so that few test images give
    few rows.
    """
    pairs = _choose_pairs(test_images, generation_params.interpolation_pairs, seed)
    first, second = test_images.take(pairs[:, 0]), test_images.take(pairs[:, 1])
    t = np.linspace(0, 1, generation_params.interpolation_steps, dtype=np.float32)
    start, end = (encode(encoder, images.model_input()) for images in (first, second))
    z = interpolate(start, end, t, generation_params.interpolation)  # [pairs, steps, latent_dim]
    decoded = decode(decoder, z.reshape(-1, z.shape[-1])).reshape(*z.shape[:2], *IMAGE_SHAPE)
    edges = [images.pictures[:, np.newaxis] for images in (first, second)]
    rows = np.concatenate([edges[0], decoded, edges[1]], axis=1)  # [pairs, steps + 2, 28, 28]
    names = [f"pair {number}" for number in range(1, len(pairs) + 1)]
    if first.label is not None and second.label is not None:
        labels = zip(names, first.label, second.label, strict=True)
        names = [f"{name}: {label} to {other}" for name, label, other in labels]
    columns = rows.shape[1]
    text = captions(
        training_summary,
        "Interpolations between test images",
        note=_WAYS[generation_params.interpolation],
        columns=["original", *(f"{value:.2f}" for value in t), "original"],
        rows=names,
        x_axis="t",
    )
    return sheet(
        rows.reshape(-1, *IMAGE_SHAPE),
        text,
        columns=columns,
        column_breaks=(1, columns - 1),
    )


def draw_reconstruction_sheet(
    encoder: KerasModel,
    decoder: KerasModel,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    generation_params: GenerationParams,
) -> Image.Image:
    """Return a sheet of test images, each above its reconstruction through `z_mean`.

    With labels each column holds images of one class; without, the first images are shown.
    """
    cells, classes = _choose_by_class(test_images, generation_params.reconstructions)
    columns = cells.shape[1]
    shown = test_images.take(cells[cells >= 0])
    decoded = decode(decoder, encode(encoder, shown.model_input()))
    # [rows of cells, original or reconstruction, columns, 28, 28]; a cell of -1 stays blank
    pixels = np.zeros((len(cells), 2, columns, *IMAGE_SHAPE), np.uint8)
    pixels[:, 0][cells >= 0] = shown.pictures
    pixels[:, 1][cells >= 0] = decoded
    text = captions(
        training_summary,
        "Reconstructions of test images",
        note="Decoded from z_mean, without noise",
        columns=classes,
        rows=["original", "reconstruction"] * len(cells),
    )
    return sheet(
        pixels.reshape(-1, *IMAGE_SHAPE),
        text,
        columns=columns,
        row_breaks=range(2, 2 * len(cells), 2),
    )


def _choose_pairs(images: ImageSet, n_pairs: int, seed: int) -> NDArray[np.intp]:
    """Return rows of at most `n_pairs` pairs, `[pairs, 2]`, with different labels if there are any.

    A single image is paired with itself.
    """
    rest = list(np.random.default_rng(seed).permutation(len(images)))
    if len(rest) == 1:
        return np.array([[0, 0]])
    label: NDArray[Any] | None = images.label
    if label is None or len(np.unique(label)) == 1:
        label = np.arange(len(images))  # nothing to tell apart but the images themselves
    pairs: list[tuple[int, int]] = []
    while rest and len(pairs) < n_pairs:
        first = rest.pop(0)
        second = next((row for row in rest if label[row] != label[first]), None)
        if second is not None:
            rest.remove(second)
            pairs.append((first, second))
    return np.array(pairs)


def _choose_by_class(images: ImageSet, count: int) -> tuple[NDArray[np.intp], list[str]]:
    """Return rows of at most `count` images as a grid, -1 where it is blank, and its captions."""
    count = min(count, len(images))
    if images.label is None:
        columns = min(count, _RECONSTRUCTION_COLUMNS)
        cells = np.full((-(-count // columns), columns), -1)
        cells.flat[:count] = np.arange(count)
        return cells, []
    classes = np.unique(images.label)[:count]
    cells = np.full((-(-count // len(classes)), len(classes)), -1)
    for column, label in enumerate(classes):
        # The last row may be a part of one: the first classes have an image more.
        height = len(range(column, count, len(classes)))
        rows = np.flatnonzero(images.label == label)[:height]
        cells[: len(rows), column] = rows
    return cells[(cells >= 0).any(axis=1)], [str(label) for label in classes]


def encode(encoder: KerasModel, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `z_mean`, `[n, latent_dim]`."""
    from mnist_vae.vae import elbo

    return elbo.encode(encoder, pixels).z_mean


def decode(decoder: KerasModel, z: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the images of `z`, uint8 `[n, 28, 28]`."""
    # Called, not `predict`: on so few images tracing a graph would take longer than the work.
    starts = range(0, len(z), _BATCH_SIZE)
    return np.concatenate(
        [to_bytes(np.asarray(decoder(z[start : start + _BATCH_SIZE]))) for start in starts]
    )
