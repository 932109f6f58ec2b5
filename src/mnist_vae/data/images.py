"""Images with ids, labels and latents; a served model imports this without Kedro and fsspec."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int]

IMAGE_SHAPE: Shape = (28, 28)
"""Height and width of MNIST's images, and of an image set that names none."""
UNLABELLED = 255  # the label of an image without one, in a set where others have one

AT_ONCE = 100_000
"""Images that a node has in memory at once; where there are more, it takes a part."""

Pixels = NDArray[np.uint8]
ClassNames = tuple[str, ...] | None

_BLOCK = 8192  # rows that are copied at a time
_COLUMNS = ("image_id", "split", "label", "z", "file")


@dataclass(frozen=True)
class ImageSet:
    """Images and what is known of each, row by row.

    Attributes:
        pixels: uint8 `[n, height·width]`, 0 the background, row after row; an array or a map.
        image_id: int64 `[n]`, unique.
        split: `[n]` of str, such as `train`.
        label: uint8 `[n]`, 255 (`UNLABELLED`) for an image that has none, or None.
        z: float32 `[n, latent_dim]`, the latents that the images were decoded from, or None.
        origin: Of images that a model made: `model_version`, `release`, `drawn_from`, `class`.
        shape: Height and width of each image.
        class_names: The class of label 0, of 1 and so on; None where labels are numbers.
        file: `[n]` of str, the picture's path in its folder, or None where images are no files.
    """

    pixels: NDArray[np.uint8]
    image_id: NDArray[np.int64]
    split: NDArray[Any]
    label: NDArray[np.uint8] | None = None
    z: NDArray[np.float32] | None = None
    origin: Mapping[str, str] = field(default_factory=dict)
    shape: Shape = IMAGE_SHAPE
    class_names: ClassNames = None
    file: NDArray[np.object_] | None = None

    def __post_init__(self) -> None:
        n_pixels = math.prod(self.shape)
        if self.pixels.dtype != np.uint8 or self.pixels.shape[1:] != (n_pixels,):
            raise ValueError(
                f"ImageSet.pixels has the wrong form: expected uint8 [n, {n_pixels}], received "
                f"{self.pixels.dtype} {list(self.pixels.shape)}; convert the images before."
            )
        for name in _COLUMNS:
            column = getattr(self, name)
            if column is not None and len(column) != len(self):
                raise ValueError(
                    f"ImageSet.{name} has the wrong length: expected {len(self)}, one an "
                    f"image, received {len(column)}; pass arrays of equal length."
                )

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def pictures(self) -> NDArray[np.uint8]:
        """The images as uint8 `[n, height, width]`, without a copy."""
        return self.pixels.reshape(-1, *self.shape)

    def model_input(self) -> NDArray[np.float32]:
        """Return float32 `[n, pixels]` in [0, 1]; raise `ValueError` for more than `AT_ONCE`."""
        if len(self) > AT_ONCE:
            raise ValueError(
                f"The pixels of {len(self):,} images were asked for at once: expected {AT_ONCE:,} "
                "at most; set a limit, such as `denoising.max_images`."
            )
        return normalize(self.pixels)

    def digest(self) -> str:
        """Return 16 hex digits that name these images: equal ids and pixels, equal name."""
        digest = hashlib.sha256(np.ascontiguousarray(self.image_id, np.int64).data)
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()[:16]

    def batches(self, batch_size: int) -> Iterator[ImageSet]:
        """Return the images in order, `batch_size` at a time, the last batch with the rest."""
        return map(self.take, slices(len(self), batch_size))

    def model_inputs(self, batch_size: int = 1024) -> Iterator[NDArray[np.float32]]:
        """Yield the pixels as a network takes them, `batch_size` images at a time."""
        for batch in self.batches(batch_size):
            yield normalize(batch.pixels)

    def take(self, rows: NDArray[np.intp] | slice, split: str | None = None) -> ImageSet:
        """Return the images at `rows`, in that order, in `split` if given; a slice is a view."""
        if isinstance(rows, slice):
            pixels = self.pixels[rows]
        else:
            parts = (self.pixels[rows[part]] for part in slices(len(rows), _BLOCK))
            pixels = gathered(parts, (len(rows), self.pixels.shape[1]))
        columns = {name: getattr(self, name) for name in _COLUMNS}
        taken: dict[str, Any] = {n: c if c is None else c[rows] for n, c in columns.items()}
        if split is not None:
            taken["split"] = one_split(split, len(pixels))
        return dataclasses.replace(self, pixels=pixels, **taken)

    def at_most(self, count: int | None, seed: int) -> ImageSet:
        """Return `count` of the images, drawn class by class, or all of them; None for all."""
        if count is None or len(self) <= count:
            return self
        return self.take(draw_rows(np.arange(len(self)), self.label, count, seed))

    def labelled(self) -> ImageSet:
        """Return the images that have a label."""
        if self.label is None:
            return self.take(slice(0))
        known = self.label != UNLABELLED
        return self if known.all() else self.take(np.flatnonzero(known))

    def in_classes(self, class_names: ClassNames) -> ImageSet:
        """Return the images with the labels that their classes have among these.

        Raises:
            ValueError: An image is of none of them.
        """
        if self.label is None or class_names == self.class_names:
            return dataclasses.replace(self, class_names=class_names)
        numbers = {name_of(n, class_names): n for n in range(len(class_names or range(UNLABELLED)))}
        own = {int(n): name_of(n, self.class_names) for n in np.setdiff1d(self.label, UNLABELLED)}
        if others := [name for name in own.values() if name not in numbers]:
            raise ValueError(
                f"Images are of classes that are not in use: expected {listed(class_names)}, "
                f"received {listed(others)}; correct their labels, or train a model on all of them."
            )
        label = np.full(UNLABELLED + 1, UNLABELLED, np.uint8)
        label[list(own)] = [numbers[name] for name in own.values()]
        return dataclasses.replace(self, label=label[self.label], class_names=class_names)


@dataclass(frozen=True)
class ImageArchive:
    """Images as published, split `train`, `validation` or `test`.

    Attributes:
        manifest: `name`, `source`, `statement` (a sentence for reports), `n_train`, `n_test` and
            `files`, each with `origin`, `sha256`, `items` and `verified`.
    """

    images: ImageSet
    manifest: dict[str, Any]


def name_of(label: int | None, class_names: ClassNames = None) -> str:
    """Return what a class is called: its number, where classes have no names."""
    if label is None:
        return "images"
    if label == UNLABELLED:
        return "none"
    return str(label) if class_names is None else class_names[label]


def listed(names: Sequence[str] | None, most: int = 10) -> str:
    """Return class names for a sentence, with the number of those left out."""
    if names is None:
        return f"numbers from 0 to {UNLABELLED - 1}"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def number_classes(names: Sequence[str | None]) -> tuple[NDArray[np.uint8] | None, ClassNames]:
    """Return the label of each image, and the names of the classes.

    Names that are all numbers up to 254 are labels themselves. None is an image without a class.

    Raises:
        ValueError: There are more than 255 classes.
    """
    known = sorted({name for name in names if name is not None})
    classes = sorted(known, key=lambda name: int(name) if name.isdecimal() else math.inf)
    if not classes:
        return None, None
    if len(classes) > UNLABELLED:
        raise ValueError(
            f"The images have too many classes: expected at most {UNLABELLED}, received "
            f"{len(classes)}, such as {listed(classes, 3)}; put some of them together, or leave "
            "the labels out."
        )
    numbers: dict[str | None, int] = {name: number for number, name in enumerate(classes)}
    are_labels = set(classes) <= set(map(str, range(UNLABELLED)))
    if are_labels:
        numbers = {name: int(name) for name in classes}
    numbers[None] = UNLABELLED
    label = np.fromiter((numbers[name] for name in names), np.uint8, len(names))
    return label, None if are_labels else tuple(classes)


def concatenate(parts: Sequence[ImageSet]) -> ImageSet:
    """Return the images of all parts, one part after the other, in the classes of the first one.

    Raises:
        ValueError: The images have different shapes, or are of other classes.
    """
    shape = parts[0].shape
    if other := next((part.shape for part in parts if part.shape != shape), None):
        raise ValueError(
            f"Images of different shapes do not make one set: expected {size_of(shape)} pixels, "
            f"received {size_of(other)} too; scale the images to one size."
        )
    class_names = next((part.class_names for part in parts if part.label is not None), None)
    parts = [part.in_classes(class_names) for part in parts]

    columns: dict[str, Any] = {}
    for name, missing in (("image_id", 0), ("split", ""), ("label", UNLABELLED), ("file", None)):
        values = [getattr(part, name) for part in parts]
        if any(value is not None for value in values):
            kind = next(value.dtype for value in values if value is not None)
            filled = zip(parts, values, strict=True)
            columns[name] = np.concatenate(
                [np.full(len(p), missing, kind) if v is None else v for p, v in filled]
            )
    pixels = gathered((part.pixels for part in parts), (sum(map(len, parts)), math.prod(shape)))
    return ImageSet(pixels, **columns, shape=shape, class_names=class_names)


def size_of(shape: Sequence[int]) -> str:
    """Return height and width as a person writes them, such as `28 x 28`."""
    return " x ".join(map(str, shape))


def new_image_set(
    pixels: NDArray[np.uint8] | ImageArchive,
    label: NDArray[np.uint8] | None = None,
    class_names: ClassNames = None,
    files: Sequence[str] | NDArray[np.object_] | None = None,
    split: str = "new",
) -> ImageSet:
    """Return images of one split, numbered from 0; raise `ValueError` for another form.

    Those of an archive, such as a folder of pictures, leave its classes behind.
    """
    if isinstance(pixels, ImageArchive):
        images = pixels.images.take(slice(None), split)
        return dataclasses.replace(images, label=None, class_names=None)
    if pixels.dtype != np.uint8 or pixels.ndim != 3:  # noqa: PLR2004
        raise ValueError(
            f"New images must be uint8 [n, height, width], received {pixels.dtype} "
            f"{list(pixels.shape)}; convert them before you save the IDX file."
        )
    count, height, width = pixels.shape
    return ImageSet(
        pixels=pixels.reshape(count, height * width),
        image_id=np.arange(count, dtype=np.int64),
        split=one_split(split, count),
        label=label,
        shape=(height, width),
        class_names=class_names,
        file=None if files is None else np.array(files, object),
    )


def normalize(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return grey values 0-255 as float32 in [0, 1], in the same shape."""
    return np.divide(pixels, np.float32(255), dtype=np.float32)


def one_split(name: str, count: int) -> NDArray[np.str_]:
    """Return the column of images that are all in one split, in the memory of one name."""
    return np.broadcast_to(np.array(name), count)


def evenly(count: int, wanted: int) -> NDArray[np.intp]:
    """Return at most `wanted` of the positions 0 to `count` - 1, in order, evenly apart."""
    return np.linspace(0, count - 1, min(wanted, count)).round().astype(np.intp)


def latent_columns(prefix: str, latent_dim: int) -> list[str]:
    """Return the column names `<prefix>_00`, `<prefix>_01`, ... of a latent vector."""
    return [f"{prefix}_{dimension:02d}" for dimension in range(latent_dim)]


def embedding_names(latent_dim: int) -> list[str]:
    """Return the names of the columns of float32 that embeddings have."""
    z = [name for part in ("z_mean", "z_log_var") for name in latent_columns(part, latent_dim)]
    return [*z, "reconstruction", "kl"]


def embedding_columns(terms: Any) -> dict[str, NDArray[Any]]:
    """Return `vae.elbo.ElboTerms` by the names of their columns, `[n]` each."""
    values = [*terms.z_mean.T, *terms.z_log_var.T, terms.reconstruction, terms.kl]
    return dict(zip(embedding_names(terms.z_mean.shape[1]), values, strict=True))


def draw_rows(
    rows: NDArray[np.intp], labels: NDArray[np.uint8] | None, size: float | int, seed: int
) -> NDArray[np.intp]:
    """Return a share (float) or a number (int) of `rows`, in order, every class in proportion.

    Rows are lined up by their place within their class, as a share of it, and the line is cut.
    """
    shuffled = np.random.default_rng(seed).permutation(rows)
    classes = np.zeros(len(rows), np.uint8) if labels is None else labels[shuffled]
    share = places(classes) + 0.5
    share /= np.bincount(classes, minlength=UNLABELLED + 1)[classes]
    count = size if isinstance(size, int) else round(size * len(rows))
    return np.sort(shuffled[np.argsort(share, kind="stable")][:count])


def places(classes: NDArray[Any]) -> NDArray[np.intp]:
    """Return the place of each image among those of its class, `[n]`, from 0."""
    place = np.empty(len(classes), np.intp)
    for number in np.unique(classes):
        members = np.flatnonzero(classes == number)
        place[members] = np.arange(len(members))
    return place


def gathered(parts: Iterable[Pixels], shape: tuple[int, int], most: int | None = None) -> Pixels:
    """Return the rows of the parts, one after the other.

    More than `most` images (`AT_ONCE`) are mapped from a temporary file without a name in `TMPDIR`.
    """
    if shape[0] <= (AT_ONCE if most is None else most):
        pixels, start = np.empty(shape, np.uint8), 0
        for part in parts:
            pixels[start : start + len(part)] = part
            start += len(part)
        return pixels
    with tempfile.TemporaryFile() as file:
        for part in parts:
            file.write(np.ascontiguousarray(part).data)
        file.flush()
        return np.memmap(file, np.uint8, "r", shape=shape)


def slices(count: int, size: int) -> Iterator[slice]:
    """Return the slices of `size` rows that make up `count`, the last one with the rest."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
