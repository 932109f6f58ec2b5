"""Sheets of digits: images side by side, enlarged without blur, with a title and captions."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mnist_vae.data.images import Shape
from mnist_vae.data.origin import origin, statement

_GAP = 1  # white pixels between images, before the enlargement
_BREAK = 4  # more of them, where a sheet parts what belongs together from what does not
_GRID_WIDTH = 1200  # images are enlarged up to this width of the grid,
_SCALES = (2, 4)  # within these factors; below 2 a caption is wider than its column

_MARGIN = 28
_PADDING = 8
_MIN_WIDTH = 520
_ROW_WIDTH = 240  # of the captions of rows, at most
_TITLE_SIZE = 24
_TEXT_SIZE = 15
_CAPTION_SIZE = 13
_BLACK = 0
_GREY = 90


def to_bytes(pixels: NDArray[np.float32], shape: Shape) -> NDArray[np.uint8]:
    """Return pixels in [0, 1], `[n, height·width]`, as uint8 `[n, height, width]`."""
    return np.rint(pixels * 255).astype(np.uint8).reshape(-1, *shape)


def tile(pixels: NDArray[np.uint8], *, columns: int, scale: int = 3) -> Image.Image:
    """Return `pixels`, uint8 `[n, height, width]`, as one picture, `columns` a row, ink black.

    Images are a white pixel apart; then all is enlarged `scale` times.
    """
    n_images, height, width = pixels.shape
    tops = _starts(-(-n_images // columns), height)
    lefts = _starts(columns, width)
    return _enlarged(pixels, tops, lefts, scale)


def sheet(
    pixels: NDArray[np.uint8],
    training_summary: dict[str, Any],
    title: str,
    *,
    columns: int,
    note: str = "",
    column_names: Sequence[str] = (),
    row_names: Sequence[str] = (),
    x_axis: str = "",
    y_axis: str = "",
    column_breaks: Collection[int] = (),
    row_breaks: Collection[int] = (),
) -> Image.Image:
    """Return images that a model made on a captioned sheet, row by row, ink black.

    Args:
        pixels: uint8 `[..., height, width]`.
        training_summary: Of the model; the last line says its data, the file's texts name it.
        title: The first line.
        columns: Images in a row.
        note: How to read the sheet; the line under the title.
        column_names: Above the images, or with `x_axis` below them.
        row_names: To the left of the images.
        x_axis: What the names of the columns count.
        y_axis: What the names of the rows count.
        column_breaks: Columns that stand a little apart from the one before.
        row_breaks: Likewise rows.
    """
    *_, height, width = pixels.shape
    pixels = pixels.reshape(-1, height, width)
    lefts = _starts(columns, width, column_breaks)
    tops = _starts(-(-len(pixels) // columns), height, row_breaks)
    smallest, largest = _SCALES
    scale = int(np.clip(_GRID_WIDTH // (lefts[-1] + width + _GAP), smallest, largest))
    grid = _enlarged(pixels, tops, lefts, scale)

    # Pillow's own font has ASCII alone.
    path = str(files("matplotlib") / "mpl-data/fonts/ttf/DejaVuSans.ttf")
    sizes = (_TITLE_SIZE, _TEXT_SIZE, _CAPTION_SIZE)
    title_font, text_font, font = (ImageFont.truetype(path, size) for size in sizes)
    line = _height("", font)
    above = line if column_names and not x_axis else 0
    below = 2 * line if x_axis else 0
    rows = [_cut(row, font, _ROW_WIDTH) for row in row_names]
    margin = max((int(font.getlength(row)) + _PADDING for row in rows), default=0)
    x = _MARGIN + (line if y_axis else 0) + margin
    sheet_width = max(x + grid.width + _MARGIN, _MIN_WIDTH)
    title = _wrapped(title, title_font, sheet_width - 2 * _MARGIN)
    note = _wrapped(note, text_font, sheet_width - 2 * _MARGIN)
    last = _wrapped(statement(training_summary), text_font, sheet_width - 2 * _MARGIN)
    y_note = _MARGIN + _height(title, title_font)
    y = y_note + (_height(note, text_font) if note else 0) + 2 * _PADDING + above
    y_statement = y + grid.height + below + 2 * _PADDING
    sheet_height = y_statement + _height(last, text_font) + _MARGIN

    picture = Image.new("L", (sheet_width, sheet_height), 255)
    picture.paste(grid, (x, y))
    draw = ImageDraw.Draw(picture)
    draw.text((_MARGIN, _MARGIN), title, _BLACK, title_font)
    draw.text((_MARGIN, y_note), note, _GREY, text_font)
    draw.text((_MARGIN, y_statement), last, _GREY, text_font)
    for caption, left in zip(column_names, lefts, strict=False):
        centre = x + scale * (int(left) + width / 2)
        middle = y + grid.height + line // 2 if x_axis else y - line // 2
        fitting = _cut(caption, font, scale * width)
        draw.text((centre, middle), fitting, _BLACK, font, anchor="mm")
    for caption, top in zip(rows, tops, strict=False):
        middle = y + scale * (int(top) + height / 2)
        draw.text((x - _PADDING, middle), caption, _BLACK, font, anchor="rm")
    centre, middle = x + grid.width / 2, y + grid.height + below - line // 2
    draw.text((centre, middle), x_axis, _GREY, font, anchor="mm")
    if y_axis:
        label = Image.new("L", (int(font.getlength(y_axis)) + 1, line), 255)
        ImageDraw.Draw(label).text((0, 0), y_axis, _GREY, font)
        label = label.transpose(Image.Transpose.ROTATE_90)  # it reads from the bottom to the top
        picture.paste(label, (_MARGIN, y + (grid.height - label.height) // 2))
    picture.info.update(origin(training_summary))
    return picture


def to_base64_png(picture: Image.Image) -> str:
    """Return `picture` as a base64 PNG, as Kedro-Viz takes it."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def thumbnails(pixels: NDArray[np.uint8], columns: int) -> str:
    """Return `pixels`, uint8 `[n, height, width]`, as one small base64 PNG, `columns` a row."""
    return to_base64_png(tile(pixels, columns=columns, scale=2))


def _starts(count: int, size: int, breaks: Collection[int] = ()) -> NDArray[np.intp]:
    """Return where each of `count` images of `size` pixels begins along an axis."""
    extra = np.cumsum([_BREAK if index in breaks else 0 for index in range(count)], dtype=np.intp)
    return _GAP + np.arange(count) * (size + _GAP) + extra


def _enlarged(
    pixels: NDArray[np.uint8], tops: NDArray[np.intp], lefts: NDArray[np.intp], scale: int
) -> Image.Image:
    """Return the images at `tops` x `lefts`, row by row, black on white, `scale` times as large."""
    _, height, width = pixels.shape
    canvas = np.full((tops[-1] + height + _GAP, lefts[-1] + width + _GAP), 255, np.uint8)
    for position, image in enumerate(pixels):
        top, left = tops[position // len(lefts)], lefts[position % len(lefts)]
        canvas[top : top + height, left : left + width] = 255 - image
    return Image.fromarray(canvas.repeat(scale, axis=0).repeat(scale, axis=1))


def _height(text: str, font: ImageFont.FreeTypeFont) -> int:
    """Return the height of a text of some lines, in pixels, with the room below each."""
    return int(1.4 * font.size) * len(text.split("\n"))


def _cut(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Return as much of a caption as has room."""
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-1]
    return text


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Return `text` in lines of at most `width` pixels; a word that is longer stands alone."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)
