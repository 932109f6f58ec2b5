"""What data sets share. Those of one file save atomically, on any fsspec file system."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple, NewType, NoReturn, TypeVar

import fsspec
from kedro.io.core import AbstractDataset, DatasetError, get_protocol_and_path
from kedro.utils import load_obj
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel, ValidationError

from mnist_vae.data.disk import partial_beside, replacing
from mnist_vae.data.images import ImageArchive, ImageSet

T = TypeVar("T")

READ_ONLY = (
    "{} is read-only: expected it as the input of nodes, received data to save; save to another "
    "catalog entry."
)

# Kedro-Viz chooses by a type's name how to show a preview; kedro-datasets' are private.
ImagePreview = NewType("ImagePreview", str)
JSONPreview = NewType("JSONPreview", str)
MermaidPreview = NewType("MermaidPreview", str)
PlotlyPreview = NewType("PlotlyPreview", dict[str, Any])
TablePreview = NewType("TablePreview", dict[str, Any])
TextPreview = NewType("TextPreview", str)


class SourceFile(NamedTuple):
    """A file of an archive: where it came from, and what is in it."""

    origin: str
    sha256: str
    items: int
    verified: bool = False
    """Whether the checksum is the one that was expected."""


def archive_of(
    images: ImageSet,
    *,
    name: str,
    source: str,
    statement: str,
    files: Mapping[str, SourceFile],
    **facts: Any,
) -> ImageArchive:
    """Return the archive of these images, with what is known of them."""
    counts = {f"n_{split}": int((images.split == split).sum()) for split in ("train", "test")}
    manifest = {"name": name, "source": source, "statement": f"Data: {statement}.", **counts}
    records = {name: file._asdict() for name, file in files.items()}
    return ImageArchive(images, {**manifest, **facts, "files": records})


class ReadOnlyDataset(AbstractDataset[NoReturn, T]):
    """What the data sets share that others make. `_name` is what the error calls them."""

    _name: str

    def save(self, data: NoReturn) -> NoReturn:
        """Raise `DatasetError`."""
        raise DatasetError(READ_ONLY.format(self._name))


class FileDataset(AbstractDataset[T, T]):
    """What the data sets of one file share: each loads what it reads, and saves by replacing it.

    Args:
        read_only: Nothing can be saved, also not in a notebook.
    """

    _expected = "one"
    _remedy = "run the pipeline that makes it first"

    def __init__(
        self,
        *,
        filepath: str,
        read_only: bool = False,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._read_only = read_only
        self._protocol, path = get_protocol_and_path(filepath)
        self._filepath = PurePosixPath(path)
        self._fs = fsspec.filesystem(self._protocol, **deepcopy(credentials or {}))
        self.metadata = metadata

    def _read(self) -> bytes:
        with self._reading() as file:
            return file.read()

    def _write(self, content: bytes) -> None:
        with self._replacing() as file:
            file.write(content)

    def _reading(self) -> BinaryIO:
        """Return the file, open; raise `DatasetError` where there is none."""
        try:
            opened: BinaryIO = self._fs.open(str(self._filepath), "rb")
        except FileNotFoundError as error:
            raise DatasetError(
                f"There is no file {self._filepath}: expected {self._expected} there, received "
                f"nothing; {self._remedy}."
            ) from error
        return opened

    @contextmanager
    def _replacing(self) -> Iterator[BinaryIO]:
        """Yield a file to write to, which replaces the old one when the block succeeds.

        Raises:
            DatasetError: The entry is read-only.
        """
        self._check_writable()
        with (
            replacing(self._fs, self._filepath) as partial,
            self._fs.open(str(partial), "wb") as file,
        ):
            yield file

    def _check_writable(self) -> None:
        if self._read_only:
            raise DatasetError(READ_ONLY.format(self._filepath))

    def _exists(self) -> bool:
        return bool(self._fs.exists(str(self._filepath)))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "protocol": self._protocol}

    def _release(self) -> None:
        self._fs.invalidate_cache(str(self._filepath))


class JSONDataset(FileDataset[Any]):
    """What JSON can hold, on one line."""

    def load(self) -> Any:
        """Return the value."""
        return json.loads(self._read())

    def save(self, data: Any) -> None:
        """Write what JSON can hold."""
        self._write(json.dumps(data).encode())

    def preview(self) -> JSONPreview:
        """Return the content, for Kedro-Viz."""
        return JSONPreview(self._read().decode())


class RecordDataset(JSONDataset):
    """`RecordDataset` saves a pydantic record as JSON, and loads it as its type again."""

    def __init__(
        self,
        *,
        record: str,
        filepath: str,
        optional: bool = False,
        read_only: bool = False,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            filepath=filepath, read_only=read_only, credentials=credentials, metadata=metadata
        )
        self._record: type[BaseModel] = load_obj(record)
        self.optional = optional

    def load(self) -> BaseModel | None:
        """Return the record, or None where it is optional and not there.

        Raises:
            DatasetError: The file holds another record, or one of another version.
        """
        if self.optional and not self._exists():
            return None
        try:
            return self._record.model_validate_json(self._read())
        except ValidationError as error:
            raise DatasetError(
                f"{self._filepath} does not hold what was expected, a record "
                f"{self._record.__name__} of this version, received {error.error_count()} fields "
                "that do not fit; delete the file and run the pipeline again."
            ) from error

    def save(self, data: BaseModel) -> None:
        """Write the record."""
        super().save(data.model_dump(mode="json"))


class TextDataset(FileDataset[str]):
    """A text, in UTF-8; Kedro-Viz shows Markdown, and with `preview: false` nothing of it."""

    def load(self) -> str:
        """Return the text."""
        return self._read().decode()

    def save(self, data: str) -> None:
        """Write the text."""
        self._write(data.encode())

    def preview(self) -> TextPreview:
        """Return the whole text."""
        return TextPreview(self._read().decode())


class FigureDataset(FileDataset[Any]):
    """A `plotly.graph_objects.Figure` as JSON, the same bytes whatever else is installed."""

    def load(self) -> Any:
        """Return the figure."""
        from plotly.io import from_json

        return from_json(self._read().decode())

    def save(self, data: Any) -> None:
        """Write the figure."""
        # Plotly would use orjson where it is installed, which writes some numbers otherwise.
        self._write(data.to_json(engine="json").encode())

    def preview(self) -> PlotlyPreview:
        """Return the figure, for Kedro-Viz."""
        return PlotlyPreview(json.loads(self._read()))


class PictureDataset(FileDataset[Image.Image]):
    """A Pillow image as one PNG, with the texts of its `info`."""

    def load(self) -> Image.Image:
        """Return the picture."""
        return _from_png(self._read())

    def save(self, data: Image.Image) -> None:
        """Write the picture."""
        self._write(_to_png(data))

    def preview(self) -> ImagePreview:
        """Return the PNG, base64, for Kedro-Viz."""
        return ImagePreview(base64.b64encode(self._read()).decode())


class PictureFolderDataset(FileDataset[dict[str, Image.Image]]):
    """Pillow images by name as a folder of PNG files, which is replaced as a whole."""

    _expected = "a folder of PNG files"

    def load(self) -> dict[str, Image.Image]:
        """Return the pictures, by the names of their files without `.png`."""
        if not self._exists():
            self._reading()
        paths = sorted(map(PurePosixPath, self._fs.find(str(self._filepath), maxdepth=1)))
        pngs = [path for path in paths if path.suffix == ".png"]
        return {path.stem: _from_png(self._fs.cat_file(str(path))) for path in pngs}

    def save(self, data: dict[str, Image.Image]) -> None:
        """Write a new folder, and put it in place of the old one: a kill leaves no part of one."""
        self._check_writable()
        with (
            partial_beside(self._fs, self._filepath) as new,
            partial_beside(self._fs, self._filepath.with_suffix(".old")) as old,
        ):
            self._fs.makedirs(str(new))
            for name, picture in data.items():
                self._fs.pipe_file(f"{new}/{name}.png", _to_png(picture))
            if self._exists():
                self._fs.mv(str(self._filepath), str(old), recursive=True)
            self._fs.mv(str(new), str(self._filepath), recursive=True)


def _from_png(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).copy()


def _to_png(picture: Image.Image) -> bytes:
    texts = PngInfo()
    for name, text in picture.info.items():
        if isinstance(name, str) and isinstance(text, str):
            texts.add_text(name, text)
    file = io.BytesIO()
    picture.save(file, format="PNG", pnginfo=texts)
    return file.getvalue()
