"""Folders of pictures: found, decoded to grey, scaled to one size."""

from __future__ import annotations

import csv
import hashlib
import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from kedro.io.core import DatasetError
from numpy.typing import NDArray

from mnist_vae.data.disk import is_hidden
from mnist_vae.data.images import ClassNames, Shape, number_classes, size_of

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MAX_PIXELS = 50_000_000
"""Pixels of one picture at most: a small file may unpack to gigabytes."""

_LABELS = "labels.csv"
_SPLITS = {"train": "train", "training": "train", "test": "test"}
_SPLITS |= dict.fromkeys(("val", "valid", "validation"), "validation")
_CHUNK = 256  # pictures that a thread decodes at a time
_SHOWN = 5  # bad pictures in a sentence
_WHITE = 128  # a background above this seems white
_16_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")

Grey = NDArray[np.uint8]


class PictureError(DatasetError):
    """A folder is not one of pictures, or too many of them are bad."""


@dataclass(frozen=True)
class PictureFile:
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


@dataclass(frozen=True)
class BadPicture:
    """A file that is left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Pictures:
    """The pictures of a folder, in the order of their names.

    Attributes:
        pixels: uint8 `[n, height, width]`.
        files: The file of each.
        label: uint8 `[n]`, or None where no picture has a class.
        class_names: The class of each label, or None where labels are numbers.
        bad: The files that are left out.
        sha256: Of names, classes and pixels.
    """

    pixels: Grey
    files: tuple[PictureFile, ...]
    label: NDArray[np.uint8] | None
    class_names: ClassNames
    bad: tuple[BadPicture, ...]
    sha256: str

    @property
    def shape(self) -> Shape:
        """Height and width of each."""
        _, height, width = self.pixels.shape
        return height, width

    @property
    def bad_ones(self) -> str:
        """Some of the files that are left out, for a sentence."""
        return _listed(self.bad)

    @property
    def seem_inverted(self) -> bool:
        """Whether the background, the border of most pictures, is white."""
        border = np.ones(self.pixels.shape[1:], bool)
        border[1:-1, 1:-1] = False
        return float(np.median(self.pixels[:, border])) >= _WHITE


def find_pictures(folder: Path) -> tuple[list[PictureFile], list[BadPicture]]:
    """Return the pictures of a folder, in an order that does not depend on the file system.

    The folder has a folder for each class, or `train`, `validation` and `test` with such folders,
    or the pictures themselves, whose classes a file `labels.csv` may name (columns `file`, `label`
    and, if need be, `split`). Hidden files, and what operating systems leave, are passed over.

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
    labels = _read_labels(folder)
    inside = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    inside = [name for name in inside if not is_hidden(name)]
    in_splits = bool(inside) and all(name.lower() in _SPLITS for name in inside)
    found: list[PictureFile] = []
    bad: list[BadPicture] = []
    for path, name in _walk(folder):
        *parents, file_name = name.split("/")
        split = _SPLITS[parents.pop(0).lower()] if in_splits and parents else None
        label = parents[0] if parents else None
        if labels is not None:
            label, split = labels.get(name, (label, split))
        if not file_name.lower().endswith(SUFFIXES):
            bad.append(BadPicture(name, f"expected a file {', '.join(SUFFIXES)}"))
        elif inside and len(name.split("/")) == 1 and labels is None:
            bad.append(BadPicture(name, "expected in the folder of a class, as others are"))
        else:
            found.append(PictureFile(path, name, split, label))
    if not found:
        raise PictureError(
            f"{folder} has no pictures: expected files {', '.join(SUFFIXES)}, in it or in a folder "
            f"for each class, received {_listed(bad) or 'nothing'}; correct `source.pictures`."
        )
    return found, bad


def read_pictures(
    folder: Path,
    *,
    image_size: Shape | None,
    invert: bool = False,
    max_bad: float = 0.01,
    progress: bool = True,
) -> Pictures:
    """Return the pictures of a folder as grey images of one size.

    Args:
        folder: As for `find_pictures`.
        image_size: Height and width that all are scaled to; None for the size that all have.
        invert: Make dark what is light, for pictures on a white background.
        max_bad: The share of files that may be left out.
        progress: Show a bar on a terminal.

    Raises:
        PictureError: As `find_pictures`; more than `max_bad` of the files are bad; or the sizes
            differ and `image_size` is None.
    """
    found, bad = find_pictures(folder)
    greys: list[Grey] = []
    kept: list[PictureFile] = []
    for file, grey in zip(
        found, decode_pictures(found, image_size, progress=progress), strict=True
    ):
        if isinstance(grey, str):
            bad.append(BadPicture(file.name, grey))
        else:
            greys.append(grey)
            kept.append(file)
    bad.sort(key=lambda picture: picture.name)
    n_files = len(kept) + len(bad)
    if not kept or len(bad) > max_bad * n_files:
        most = f"at most {max_bad:.1%} of them (`source.max_bad`)" if max_bad else "none"
        raise PictureError(
            f"{folder} has {len(bad)} bad files of {n_files}: expected {most}, received "
            f"{_listed(bad)}; mend or remove them{', or raise `source.max_bad`' * (max_bad > 0)}."
        )
    _check_sizes(folder, greys, kept)
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
    return Pictures(pixels, tuple(kept), label, class_names, tuple(bad), digest.hexdigest())


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield all files that are not hidden, with their names in the folder, in order."""
    names = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not is_hidden(name)]
        names += [Path(place, name) for name in files if not is_hidden(name)]
    named = {_normal(path.relative_to(folder).as_posix()): path for path in names}
    for name in sorted(named):
        if name != _LABELS:
            yield named[name], name


def _normal(name: str) -> str:
    """Return a name as NFC: some file systems take its accents apart."""
    return unicodedata.normalize("NFC", name)


def _read_labels(folder: Path) -> dict[str, tuple[str | None, str | None]] | None:
    """Return class and split by the name of the file, or None where there is no `labels.csv`."""
    path = folder / _LABELS
    if not path.is_file():
        return None
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        columns = rows.fieldnames or []
        if not {"file", "label"} <= set(columns):
            raise PictureError(
                f"{path} is not a table of labels: expected the columns file, label and, if need "
                f"be, split, received {', '.join(columns) or 'none'}; correct its first line."
            )
        try:
            labels = {}
            for row in rows:
                split = row.get("split")
                labels[_normal(row["file"])] = (
                    _normal(row["label"]) if row["label"] else None,
                    _SPLITS[split.lower()] if split else None,
                )
        except (KeyError, UnicodeDecodeError, csv.Error) as error:
            raise PictureError(
                f"{path} cannot be read in line {rows.line_num}: expected UTF-8 and a split of "
                f"train, validation or test, received {error}; correct the line."
            ) from error
    if missing := [name for name in labels if not (folder / name).is_file()]:
        raise PictureError(
            f"{path} names {len(missing)} files that are not there: expected each in {folder}, "
            f"received {', '.join(missing[:_SHOWN])}; correct the names."
        )
    return labels


def decode_pictures(
    files: Sequence[PictureFile], size: Shape | None, *, progress: bool
) -> Iterator[Grey | str]:
    """Yield the grey image of each file, or why there is none, decoded by all cores."""
    from tqdm import tqdm

    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    bar = tqdm(
        total=len(files), desc="Pictures", unit="picture", disable=None if progress else True
    )
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about oddities of files that it can read
        for chunk in pool.map(lambda part: [_decode(file.path, size) for file in part], chunks):
            bar.update(len(chunk))
            yield from chunk


def _decode(path: Path, size: Shape | None) -> Grey | str:
    """Return a picture as grey values, or a reason."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                return f"expected at most {MAX_PIXELS:,} pixels, received {width} x {height}"
            if (frames := getattr(picture, "n_frames", 1)) > 1:
                return f"expected one picture, received {frames} in one file"
            upright = ImageOps.exif_transpose(picture)
            return _grey(upright, size)
    except UnidentifiedImageError:
        return f"expected a {', '.join(FORMATS)} file, received another"
    except MemoryError:
        raise
    except Exception as error:  # no list of what a stranger's file makes Pillow raise is complete
        return f"cannot be decoded ({error})"


def _grey(picture: Image, size: Shape | None) -> Grey:
    """Return 8 bit grey values; what is transparent becomes white, as viewers show it.

    Colours become luma by the weights of ITU-R BT.601.
    """
    from PIL import Image

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


def _check_sizes(folder: Path, greys: Sequence[Any], files: Sequence[PictureFile]) -> None:
    counts = Counter(grey.shape for grey in greys)
    if len(counts) > 1:
        sizes = ", ".join(
            f"{size_of(shape)} ({count})" for shape, count in counts.most_common(_SHOWN)
        )
        (usual, _), *_ = counts.most_common(1)
        other = next(f.name for g, f in zip(greys, files, strict=True) if g.shape != usual)
        raise PictureError(
            f"The pictures in {folder} have {len(counts)} sizes: expected one, as "
            f"`source.image_size` is null, received {sizes}, such as {other}; give a size, such as "
            "`source.image_size=28`."
        )


def _listed(bad: Sequence[BadPicture]) -> str:
    shown = "; ".join(f"{picture.name} ({picture.reason})" for picture in bad[:_SHOWN])
    return f"{shown} and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else shown
