"""Folders of pictures: found, decoded to grey, scaled to one size."""

from __future__ import annotations

import hashlib
import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from kedro.io.core import DatasetError
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_vae.data.disk import is_hidden
from mnist_vae.data.images import ImageSet, Shape, new_image_set, number_classes, size_of

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

_LABELS = "labels.csv"
_SPLITS = {"train": "train", "training": "train", "test": "test"}
_SPLITS |= dict.fromkeys(("val", "valid", "validation"), "validation")
_SHOWN = 5  # bad pictures in a sentence
_16_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")

Grey = NDArray[np.uint8]
Bad = dict[str, str]  # why a file is left out, by its name


class PictureError(DatasetError):
    """A folder is not one of pictures, or too many of them are bad."""


class PictureFile(NamedTuple):
    """A picture that was found, not yet opened.

    Attributes:
        path: The file.
        name: Its path in the folder, with `/`.
        split: `train`, `validation` or `test`, or None where the folder does not say.
        label: The name of its class, or None.
    """

    path: Path
    name: str
    split: str | None
    label: str | None


class Pictures(NamedTuple):
    """The pictures of a folder, in the order of their names.

    Attributes:
        images: Grey images; those without a split are in `train`.
        bad: Why each of the files that are left out is.
        sha256: Of names, classes and pixels.
    """

    images: ImageSet
    bad: Bad
    sha256: str


def find_pictures(folder: Path) -> tuple[list[PictureFile], Bad]:
    """Return the pictures of a folder, in an order that does not depend on the file system.

    The folder has a folder for each class, or `train`, `test` and, if need be, `validation` with
    such folders, or the pictures themselves, whose classes a file `labels.csv` may name (columns
    `file`, `label` and, if need be, `split`). Hidden files, and what operating systems leave, are
    passed over.

    Returns:
        The pictures, and the files that are none by their names.

    Raises:
        PictureError: There is no such folder, it has no picture, or `labels.csv` is wrong.
    """
    if not folder.is_dir():
        raise PictureError(
            f"{folder} is not a folder: expected one of pictures, received "
            f"{'a file' if folder.exists() else 'nothing'}; correct `source.pictures`."
        )
    paths = {}
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for path in (Path(place, name) for name in files if not is_hidden(name)):
            paths[_normal(path.relative_to(folder).as_posix())] = path
    table = paths.pop(_LABELS, None)
    labels = None if table is None else _read_labels(table, paths.keys())
    inside = {name.lower() for name in next(os.walk(folder))[1] if not is_hidden(name)}
    in_splits = bool(inside) and inside <= _SPLITS.keys()
    found: list[PictureFile] = []
    bad: Bad = {}
    for name, path in sorted(paths.items()):
        parents = name.split("/")[:-1]
        is_stray = bool(inside) and not parents and labels is None
        split = _SPLITS[parents.pop(0).lower()] if in_splits and parents else None
        label = parents[0] if parents else None
        if labels is not None:
            label, split = labels.get(name, (label, split))
        if not name.lower().endswith(SUFFIXES):
            bad[name] = f"expected a file {', '.join(SUFFIXES)}"
        elif is_stray:
            bad[name] = "expected in the folder of a class, as others are"
        else:
            found.append(PictureFile(path, name, split, label))
    if not found:
        raise PictureError(
            f"{folder} has no pictures: expected files {', '.join(SUFFIXES)}, in it or in a folder "
            f"for each class, received {listed(bad) or 'nothing'}; correct `source.pictures`."
        )
    return found, bad


def read_pictures(
    folder: Path, *, image_size: Shape | None, invert: bool = False, max_bad: float = 0.01
) -> Pictures:
    """Return the pictures of a folder as grey images of one size.

    Args:
        folder: As for `find_pictures`.
        image_size: Height and width that all are scaled to; None for the size that all have.
        invert: Make dark what is light, for pictures on a white background.
        max_bad: The share of files that may be left out.

    Raises:
        PictureError: As `find_pictures`; more than `max_bad` of the files are bad; or the sizes
            differ and `image_size` is None.
    """
    found, bad = find_pictures(folder)
    greys: list[Grey] = []
    kept: list[PictureFile] = []
    for file, grey in zip(found, decode_pictures(found, image_size), strict=True):
        if isinstance(grey, str):
            bad[file.name] = grey
        else:
            greys.append(grey)
            kept.append(file)
    bad = dict(sorted(bad.items()))
    n_files = len(kept) + len(bad)
    if not kept or len(bad) > max_bad * n_files:
        most = f"at most {max_bad:.1%} of them (`source.max_bad`)" if max_bad else "none"
        raise PictureError(
            f"{folder} has {len(bad)} bad files of {n_files}: expected {most}, received "
            f"{listed(bad)}; mend or remove them{', or raise `source.max_bad`' * (max_bad > 0)}."
        )
    sizes = Counter(size_of(grey.shape) for grey in greys).most_common()
    if len(sizes) > 1:
        received = ", ".join(f"{size} ({count})" for size, count in sizes[:_SHOWN])
        raise PictureError(
            f"The pictures in {folder} have {len(sizes)} sizes: expected one, as "
            f"`source.image_size` is null, received {received}; give a size, such as "
            "`source.image_size=28`."
        )
    try:
        label, class_names = number_classes([file.label for file in kept])
    except ValueError as error:
        raise PictureError(f"{folder}: {error}") from error
    pixels = np.stack(greys)
    if invert:
        pixels = 255 - pixels
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(pixels.data)
    for file in kept:
        digest.update(f"{file.name}\0{file.split}\0{file.label}\0".encode(errors="surrogatepass"))
    images = new_image_set(pixels, label, class_names, [file.name for file in kept])
    images = replace(images, split=np.array([file.split or "train" for file in kept]))
    return Pictures(images, bad, digest.hexdigest())


def listed(bad: Bad) -> str:
    """Return some of the files that are left out, for a sentence."""
    shown = "; ".join(f"{name} ({reason})" for name, reason in list(bad.items())[:_SHOWN])
    return f"{shown} and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else shown


def _normal(name: str) -> str:
    """Return a name as NFC: some file systems take its accents apart."""
    return unicodedata.normalize("NFC", name)


def _read_labels(path: Path, names: Container[str]) -> dict[str, tuple[str | None, str | None]]:
    """Return class and split by the name of the file, each one of `names`."""
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, na_filter=False, index_col=False, encoding="utf-8-sig")
        splits = table["split"] if "split" in table else [""] * len(table)
        labels = {
            _normal(name): (_normal(label) or None, _SPLITS[split.lower()] if split else None)
            for name, label, split in zip(table["file"], table["label"], splits, strict=True)
        }
    except (KeyError, ValueError) as error:
        raise PictureError(
            f"{path} is not a table of labels: expected UTF-8, columns file, label and, if need "
            "be, split, which is train, validation or test, received "
            f"{type(error).__name__}: {error}; correct it."
        ) from error
    if missing := [name for name in labels if name not in names]:
        raise PictureError(
            f"{path} names {len(missing)} files that are not there: expected each in its folder, "
            f"received {', '.join(missing[:_SHOWN])}; correct the names."
        )
    return labels


def decode_pictures(files: Sequence[PictureFile], size: Shape | None) -> Iterator[Grey | str]:
    """Yield the grey image of each file, or why there is none, decoded by all cores."""
    from tqdm import tqdm

    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about oddities of files that Pillow can read
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        decoded = pool.map(lambda file: _decode(file.path, size), files)
        yield from tqdm(decoded, "Pictures", len(files), unit="picture", disable=None)


def _decode(path: Path, size: Shape | None) -> Grey | str:
    """Return a picture as grey values, or a reason."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if (frames := getattr(picture, "n_frames", 1)) > 1:
                return f"expected one picture, received {frames} in one file"
            return _grey(ImageOps.exif_transpose(picture), size)
    except UnidentifiedImageError:
        return f"expected a {', '.join(FORMATS)} file, received another"
    except MemoryError:
        raise
    except Exception as error:  # no list of what a stranger's file makes Pillow raise is complete
        return f"cannot be decoded ({error})"


def _grey(picture: Image.Image, size: Shape | None) -> Grey:
    """Return 8 bit grey values; what is transparent becomes white, as viewers show it.

    Colours become luma by the weights of ITU-R BT.601.
    """
    if picture.mode in _16_BITS:
        values = np.asarray(picture).astype(np.float32) / 257
        picture = Image.fromarray(np.clip(values.round(), 0, 255).astype(np.uint8))
    elif picture.mode == "F":
        raise ValueError("its values are of float32, whose white is unknown")
    elif picture.has_transparency_data:
        colours = picture.convert("RGBA")
        white = Image.new("RGBA", colours.size, "white")
        picture = Image.alpha_composite(white, colours)
    if picture.mode not in ("L", "1", "RGB"):
        picture = picture.convert("RGB")
    grey = picture.convert("L")
    if size is not None and grey.size != size[::-1]:
        grey = grey.resize(size[::-1], Image.Resampling.BILINEAR)  # Pillow's antialiases
    return np.asarray(grey)
