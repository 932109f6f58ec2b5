"""How images change along a direction of z that stands for an attribute of their pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_vae.data.images import AT_ONCE, ImageSet, places
from mnist_vae.data.models import KerasModel
from mnist_vae.data.sheets import sheet
from mnist_vae.pipelines.generation.nodes import decode, encode

_SHARE = 10  # of the images, one in so many is at each end of an attribute
_STEPS = (-1.0, -0.5, 0.0, 0.5, 1.0)
_ROWS = 4  # of images an attribute
_LEAST_VARIANCE = 1e-9


def ink(images: NDArray[Any]) -> NDArray[np.float64]:
    """Return how much of each image, `[n, height, width]` in [0, 1], is ink: 0 to 1, `[n]`."""
    share: NDArray[np.float64] = images.mean(axis=(1, 2), dtype=np.float64)
    return share


def slant(images: NDArray[Any]) -> NDArray[np.float64]:
    """Return how far each image leans to the right, in pixels across a pixel up, `[n]`.

    It is −μ₁₁/μ₀₂ of the central moments, and 0 where the ink is in one row, or there is none.
    """
    y, x = (axis.ravel() for axis in np.indices(images.shape[1:], np.float64))
    powers = np.stack([np.ones_like(x), x, y, x * y, y * y], axis=1)
    mass, *moments = (np.asarray(images, np.float64).reshape(len(images), -1) @ powers).T
    mean_x, mean_y, mean_xy, mean_yy = (m / np.where(mass > 0, mass, 1) for m in moments)
    variance = mean_yy - mean_y**2
    tall = variance > _LEAST_VARIANCE
    return np.where(tall, (mean_x * mean_y - mean_xy) / np.where(tall, variance, 1), 0.0)


_ATTRIBUTES = {"ink": ink, "slant": slant}


def direction(
    z_mean: NDArray[np.float32], values: NDArray[np.float64], labels: NDArray[np.uint8] | None
) -> NDArray[np.float32]:
    """Return the mean z of the tenth with the most of an attribute minus that with the least.

    `z_mean` is `[n, latent_dim]`, the others `[n]`. With labels it is the mean over classes.
    """
    classes = np.zeros(len(values), np.uint8) if labels is None else labels
    ways = []
    for label in np.unique(classes):
        rows = np.flatnonzero(classes == label)
        order = rows[np.argsort(values[rows], kind="stable")]
        count = max(1, len(order) // _SHARE)
        ways.append(z_mean[order[-count:]].mean(axis=0) - z_mean[order[:count]].mean(axis=0))
    way: NDArray[np.float32] = np.mean(ways, axis=0, dtype=np.float32)
    return way


def draw_latent_arithmetic(
    encoder: KerasModel,
    decoder: KerasModel,
    test_images: ImageSet,
    training_summary: dict[str, Any],
    seed: int,
) -> Image.Image:
    """Return a sheet of test images with more and less ink, and leaning more and less."""
    images = test_images.at_most(AT_ONCE, seed)
    pixels = images.model_input()
    z_mean = encode(encoder, pixels)
    order = np.random.default_rng(seed).permutation(len(images))
    classes = np.zeros(len(images)) if images.label is None else images.label
    shown = order[np.argsort(places(classes[order]), kind="stable")[:_ROWS]]
    t = np.array(_STEPS, np.float32)[:, np.newaxis]
    rows, names, changes = [], [], []
    for name, attribute in _ATTRIBUTES.items():
        way = direction(z_mean, attribute(pixels.reshape(-1, *images.shape)), images.label)
        decoded = decode(decoder, z_mean[shown][:, np.newaxis] + t * way, images.shape)
        rows.append(np.concatenate([images.pictures[shown][:, np.newaxis], decoded], axis=1))
        names += [name] * len(shown)
        least, most = (attribute(decoded[:, end] / 255).mean() for end in (0, -1))
        changes.append(f"{name} from {least:.2f} to {most:.2f}")
    by_class = "" if images.label is None else ", class by class"
    return sheet(
        np.concatenate(rows),
        training_summary,
        "Arithmetic with z: more ink, and more slant",
        note="Decoded from z_mean + t d; d leads from the tenth of the test images with the least "
        f"of it to the tenth with the most{by_class}. Mean over the rows: {', '.join(changes)}",
        column_names=["original", *(f"{step:.1f}" for step in _STEPS)],
        row_names=names,
        x_axis="t",
        columns=1 + len(_STEPS),
        column_breaks=(1,),
        row_breaks=(len(shown),),
    )
