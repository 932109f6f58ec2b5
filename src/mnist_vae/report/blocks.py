"""What a page of the report is made of: records, JSON at rest, whose text the template escapes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from mnist_vae.data.origin import origin
from mnist_vae.data.sheets import to_base64_png


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
    """The latent plane, with the images themselves (`scatter.pack`)."""

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
