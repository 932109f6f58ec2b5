"""One HTML file of a `Page`: it needs no other file, no server and no network."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import re
import zlib
from typing import Any

from mnist_vae.report.blocks import Charts, Page, Scatter

_CODE = re.compile(r"`([^`]+)`")


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
    html: str = template("page.html.j2").render(page=page, plotly=_plotly() if drawn else "")
    return html


@functools.cache
def _plotly() -> str:
    """Return plotly.js as the package `plotly` has it, gzipped, base64."""
    from plotly.offline import get_plotlyjs

    return packed(get_plotlyjs().encode())


def packed(content: bytes) -> str:
    """Return the content gzipped, base64; equal content gives equal text."""
    return base64.b64encode(gzip.compress(content, zlib.Z_BEST_COMPRESSION, mtime=0)).decode()
