"""What a page of the report is made of, and one HTML file of it that needs no other file.

Blocks are records, JSON at rest, whose text the template escapes.
"""

from __future__ import annotations

import base64
import functools
import gzip
import json
import re
import zlib
from importlib.resources import files
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from mnist_vae.data.origin import origin
from mnist_vae.data.sheets import to_base64_png

_CODE = re.compile(r"`([^`]+)`")


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Text(_Block):
    """A paragraph; a note is muted, as it says how to read what stands by it."""

    kind: Literal["text"] = "text"
    text: str
    note: bool = False


class Table(_Block):
    """A table, whose rows are as long as `columns`; the first cell of each names it."""

    kind: Literal["table"] = "table"
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: bool = False


class Picture(_Block):
    """A grey picture, dark on white; the page inverts it where it is dark."""

    kind: Literal["picture"] = "picture"
    caption: str
    alt: str
    png: str  # base64
    width: int  # in pixels of the page, at most
    title: str = ""  # shown where one points at it

    @classmethod
    def of(
        cls, picture: Image.Image, caption: str, alt: str, scale: float = 0.8, title: str = ""
    ) -> Picture:
        """Return a picture that is shown at `scale` times its size."""
        png, width = to_base64_png(picture.convert("L")), round(picture.width * scale)
        return cls(caption=caption, alt=alt, png=png, width=width, title=title)


class Gallery(_Block):
    """Pictures side by side, as many as fit, under a caption or none; of wide ones two fit."""

    kind: Literal["gallery"] = "gallery"
    caption: str
    pictures: tuple[Picture, ...]
    wide: bool = False


class Chart(_Block):
    """Curves over the epochs, as Plotly's traces; the page gives them their layout."""

    caption: str
    data: tuple[dict[str, Any], ...]


class Charts(_Block):
    """Charts side by side, as many as fit."""

    kind: Literal["charts"] = "charts"
    charts: tuple[Chart, ...]


class Scatter(_Block):
    """The latent plane, with the images themselves (`pictures.pack`)."""

    kind: Literal["scatter"] = "scatter"
    caption: str
    points: str  # base64 of gzipped columns
    sprite: str  # base64 WebP of all images, `across` a row
    about: dict[str, Any]  # what the script needs to read them
    table: Table


class Raw(_Block):
    """A text that is shown as it is, folded."""

    kind: Literal["raw"] = "raw"
    caption: str
    text: str


Block = Annotated[
    Text | Table | Picture | Gallery | Charts | Scatter | Raw, Field(discriminator="kind")
]


class Section(_Block):
    """A section of the page; `key` is its anchor, and says its place."""

    key: str
    title: str
    blocks: tuple[Block, ...]


class Findings(_Block):
    """What a pipeline that is run by itself has found out about a model, for the report."""

    model_version: str
    release: str | None = None
    sections: tuple[Section, ...]

    @classmethod
    def of(cls, training_summary: dict[str, Any], *sections: Section) -> Findings:
        """Return sections about the model of this summary."""
        return cls(sections=sections, **origin(training_summary))


class Fact(_Block):
    """A figure at the head of the page."""

    name: str
    value: str
    note: str = ""


class Page(_Block):
    """The page; `statement` says which model it is, `warning` what must not be overlooked."""

    heading: str
    tone: Literal["good", "bad", "plain"] = "plain"
    statement: str
    warning: str = ""
    lead: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    sections: tuple[Section, ...]


def template(name: str) -> Any:
    """Return a template; in those of HTML what is shown is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("mnist_vae.report"),
        autoescape=select_autoescape(["html.j2"], default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "prose": prose,
        "quoted": functools.partial(json.dumps, ensure_ascii=False),
    }
    return environment.get_template(name)


def prose(text: str) -> Any:
    """Return a sentence as HTML, where what stands in backticks is code."""
    from markupsafe import Markup, escape

    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 -- it is escaped


def render(page: Page) -> str:
    """Return the HTML file, with plotly.js compressed in it."""
    blocks = [block for section in page.sections for block in section.blocks]
    drawn = any(isinstance(block, Charts | Scatter) for block in blocks)
    folder = files("mnist_vae.report") / "templates"
    parts = {name: (folder / f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    plotly = _plotly() if drawn else ""
    html: str = template("page.html.j2").render(page=page, plotly=plotly, **parts)
    return html


@functools.cache
def _plotly() -> str:
    """Return plotly.js as the package `plotly` has it, gzipped, base64."""
    from plotly.offline import get_plotlyjs

    return packed(get_plotlyjs().encode())


def packed(content: bytes) -> str:
    """Return the content gzipped, base64; equal content gives equal text."""
    return base64.b64encode(gzip.compress(content, zlib.Z_BEST_COMPRESSION, mtime=0)).decode()
