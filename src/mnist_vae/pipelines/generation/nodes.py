"""Images from the decoder: new ones, and sheets that show what z stands for."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_vae.data.images import AT_ONCE, ImageSet, Shape, name_of, places
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import check_images, check_models, image_form, origin
from mnist_vae.data.sheets import sheet, to_bytes
from mnist_vae.params import GenerationParams
from mnist_vae.pipelines.generation.samplers import draw_z, interpolate

_SHEET_ROWS = 30  # of generated images at most; a longer sheet is no longer looked at
_RECONSTRUCTION_COLUMNS = 10
_PLANE = 2  # dimensions of a sheet
_DRAWN_FROM = {
    "prior": "~ N(0, I)",
    "mixture": "of a Gaussian mixture fitted on z of the training images",
    "class_mixture": "of a Gaussian mixture for each class, fitted on z of the training images",
}
_WAYS = {
    "linear": "Decoded from (1 - t) z_mean of the left original + t z_mean of the right one",
    "spherical": "Decoded from z on the arc from z_mean of the left original to that of the right "
    "one, at the share t of the angle between them",
}


class Model(NamedTuple):
    """A trained model, the images that show what it does, and what is asked for."""

    encoder: KerasModel
    decoder: KerasModel
    images: ImageSet
    summary: dict[str, Any]
    params: GenerationParams


def generate(
    encoder: KerasModel,
    decoder: KerasModel,
    train_images: ImageSet,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    generation_params: GenerationParams,
    seed: int,
) -> tuple[ImageSet, Image.Image, Image.Image, Image.Image, Image.Image]:
    """Return new images, and the sheets of these, latent manifold, interpolations, reconstructions.

    Raises:
        ValueError: Models or images are not of the training, or have none of the classes asked for.
    """
    check_models(training_summary, encoder, decoder)
    model = Model(encoder, decoder, test_images, training_summary, generation_params)
    images = generate_images(model, train_images, seed)
    return (
        images,
        draw_generated_sheet(model, images),
        draw_latent_manifold(model),
        draw_interpolations(model, seed),
        draw_reconstruction_sheet(model),
    )


def generate_images(model: Model, train_images: ImageSet, seed: int) -> ImageSet:
    """Return images decoded from z of the sampler, with their z; a class mixture labels them."""
    params, form = model.params, image_form(model.summary)
    if params.sampler != "prior":
        check_images(model.summary, train_images)
    z, labels = draw_z(params, model.encoder, train_images, form.class_names, seed)
    cooled = "" if params.temperature == 1 else f", at the temperature {params.temperature:g}"
    about = {**origin(model.summary), "drawn_from": _DRAWN_FROM[params.sampler] + cooled}
    if params.label is not None:
        about["class"] = params.label
    return ImageSet(
        pixels=decode(model.decoder, z, form.shape).reshape(len(z), -1),
        image_id=np.arange(len(z)),
        split=np.full(len(z), "generated"),
        label=labels,
        z=z,
        origin=about,
        shape=form.shape,
        class_names=form.class_names,
    )


def to_pictures(images: ImageSet, training_summary: dict[str, Any]) -> dict[str, Image.Image]:
    """Return `images` by image id ("0000", "0001", ...), white on black as MNIST itself."""
    digits = max(4, len(str(images.image_id.max())))
    pictures = {}
    for image_id, image in zip(images.image_id, images.pictures, strict=True):
        picture = Image.fromarray(image)
        picture.info.update(origin(training_summary))
        pictures[f"{image_id:0{digits}d}"] = picture
    return pictures


def draw_generated_sheet(model: Model, generated_images: ImageSet) -> Image.Image:
    """Return a sheet of the generated images, or of the first of very many."""
    columns = min(model.params.grid_columns, len(generated_images))
    shown = generated_images.take(slice(columns * _SHEET_ROWS))
    about = generated_images.origin
    title = "Generated images" + (f" of class {about['class']}" if "class" in about else "")
    count = f"{len(shown):,}"
    if len(shown) < len(generated_images):
        count = f"The first {count} of {len(generated_images):,}"
    images = "image" if len(generated_images) == 1 else "images"
    note = f"{count} {images}, decoded from z {about['drawn_from']}"
    return sheet(shown.pictures, model.summary, title, note=note, columns=columns)


def draw_latent_manifold(model: Model) -> Image.Image:
    """Return a sheet of what is decoded from a regular grid of z, rising rightwards and upwards.

    The coordinates are the quantiles (i + ½)/n of N(0, 1). With more than two dimensions the plane
    is that of the two whose mean varies most over the test images.
    """
    latent_dim, steps = model.decoder.input_shape[-1], model.params.manifold_steps
    quantiles = [NormalDist().inv_cdf((step + 0.5) / steps) for step in range(steps)]
    values = [f"{quantile:.2f}" for quantile in quantiles]
    title, note = "Latent manifold", "Decoded from z at equidistant quantiles of the prior N(0, I)"
    plane = list(range(latent_dim))
    if latent_dim > _PLANE:
        z_mean = encode(model.encoder, model.images.at_most(AT_ONCE, seed=0).model_input())
        plane = sorted(np.argsort(-z_mean.var(axis=0), kind="stable")[:_PLANE])
        title += f": the plane of z_{plane[0]:02d} and z_{plane[1]:02d}"
        note += (
            f"; of {latent_dim} dimensions the two whose mean varies most over the test images, "
            "the others at 0"
        )
    axes: dict[str, Any] = {"column_names": values, "x_axis": f"z_{plane[0]:02d}"}
    z = np.zeros((steps if latent_dim > 1 else 1, steps, latent_dim), np.float32)
    z[..., plane[0]] = quantiles
    if latent_dim > 1:
        z[..., plane[1]] = np.array(quantiles[::-1])[:, np.newaxis]
        axes |= {"row_names": values[::-1], "y_axis": f"z_{plane[1]:02d}"}
    decoded = decode(model.decoder, z, image_form(model.summary).shape)
    return sheet(decoded, model.summary, title, columns=steps, note=note, **axes)


def draw_interpolations(model: Model, seed: int) -> Image.Image:
    """Return a sheet with a row a pair of test images, from one latent mean to the other."""
    pairs = _choose_pairs(model.images, model.params.interpolation_pairs, seed)
    first, second = model.images.take(pairs[:, 0]), model.images.take(pairs[:, 1])
    t = np.linspace(0, 1, model.params.interpolation_steps, dtype=np.float32)
    way = model.params.interpolation
    start, end = (encode(model.encoder, images.model_input()) for images in (first, second))
    decoded = decode(model.decoder, interpolate(start, end, t, way), first.shape)
    left, right = (images.pictures[:, np.newaxis] for images in (first, second))
    grid = np.concatenate([left, decoded, right], axis=1)  # [pairs, steps + 2, height, width]
    rows = [f"pair {number}" for number in range(1, len(pairs) + 1)]
    if first.label is not None and second.label is not None:
        ends = zip(rows, first.label, second.label, strict=True)
        names = first.class_names
        rows = [f"{row}: {name_of(a, names)} to {name_of(b, names)}" for row, a, b in ends]
    return sheet(
        grid,
        model.summary,
        "Interpolations between test images",
        columns=grid.shape[1],
        note=_WAYS[way],
        column_names=["original", *(f"{value:.2f}" for value in t), "original"],
        row_names=rows,
        x_axis="t",
        column_breaks=(1, grid.shape[1] - 1),
    )


def draw_reconstruction_sheet(model: Model) -> Image.Image:
    """Return a sheet of test images, each above its reconstruction through `z_mean`."""
    images = model.images
    label: NDArray[Any] | None = images.label
    if label is None:
        label = np.arange(len(images)) % _RECONSTRUCTION_COLUMNS
    classes, column = np.unique(label, return_inverse=True)
    row = places(column)
    # A last row may be a part of one: the first classes have an image more.
    chosen = np.flatnonzero(row * len(classes) + column < model.params.reconstructions)
    row, column, shown = row[chosen], column[chosen], images.take(chosen)
    pairs = np.zeros((row.max() + 1, 2, column.max() + 1, *images.shape), np.uint8)
    pairs[row, 0, column] = shown.pictures
    z_mean = encode(model.encoder, shown.model_input())
    pairs[row, 1, column] = decode(model.decoder, z_mean, images.shape)
    named = classes[: 0 if images.label is None else pairs.shape[2]]
    return sheet(
        pairs,
        model.summary,
        "Reconstructions of test images",
        columns=pairs.shape[2],
        note="Decoded from z_mean, without noise",
        column_names=[name_of(one, images.class_names) for one in named],
        row_names=["original", "reconstruction"] * len(pairs),
        row_breaks=range(2, 2 * len(pairs), 2),
    )


def encode(encoder: KerasModel, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `z_mean` of pixels, `[n, latent_dim]`."""
    from mnist_vae.vae import elbo

    return elbo.encode(encoder, pixels).z_mean


def decode(decoder: KerasModel, z: NDArray[np.float32], shape: Shape) -> NDArray[np.uint8]:
    """Return the images of z, `[..., latent_dim]`: uint8 `[..., height, width]`."""
    from mnist_vae.vae import elbo

    decoded = elbo.decode(decoder, z.reshape(-1, z.shape[-1]))
    return to_bytes(decoded, shape).reshape(*z.shape[:-1], *shape)


def _choose_pairs(images: ImageSet, n_pairs: int, seed: int) -> NDArray[np.intp]:
    """Return rows of at most `n_pairs` pairs, `[pairs, 2]`, with different labels if there are."""
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
