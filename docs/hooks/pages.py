"""What MkDocs asks while it builds the site (`hooks` in mkdocs.yml).

- A fence ```` ```generated ```` with a name of `reference.GENERATED` becomes that part of the
  reference, made of the package and of its configuration.
- A fence ```` ```source ```` with the dotted name of a function or class becomes its lines in
  `src/`, so that a page cannot show code that is no longer there.
- A fence ```` ```math ```` with TeX becomes MathML, which browsers draw by themselves.
- An entry `folder/*` of the navigation becomes the pages of the folder that it does not name.
- Every room of the package gets a page of the API.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equations
import reference
import snippets
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

_FENCE = re.compile(r"^```(generated|source)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
_API = "reference/api"
# What the plugin `offline` needs for the search of a page that is opened from disk.
_WORKER_ELSEWHERE = "https://unpkg.com/iframe-worker/shim"
_WORKER = "assets/iframe-worker.js"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Expand the navigation, and have equations drawn."""
    superfences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    superfences["custom_fences"] = [{"name": "math", "class": "math", "format": equations.fence}]
    named = set(_leaves(config.nav))
    pages = {path.relative_to(config.docs_dir).as_posix() for path in _sources(config)}
    pages |= {f"{_API}/{room}.md" for room in reference.rooms()}
    config.nav = _expanded(config.nav, sorted(pages - named))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the API."""
    for room, content in reference.api_pages().items():
        files.append(File.generated(config, f"{_API}/{room}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Replace the fences that are made while the site is built."""

    def made(match: re.Match[str]) -> str:
        kind, name = match[1], match[2].strip()
        try:
            return snippets.fence(name) if kind == "source" else reference.GENERATED[name]()
        except LookupError as error:
            raise PluginError(f"{page.file.src_uri} names {name}, which is not there.") from error

    return _FENCE.sub(made, markdown)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Make a page load nothing from elsewhere, and name what a screen reader would not know."""
    return _mended(output, get_relative_url(_WORKER, page.url))


def on_post_template(output_content: str, **_: Any) -> str:
    """Do the same for the page of errors, which a server sends from any address."""
    return _mended(output_content, f"/{_WORKER}")


def _mended(html: str, worker: str) -> str:
    html = html.replace(_WORKER_ELSEWHERE, worker)
    return html.replace('role="dialog">', 'role="dialog" aria-label="Search">')


def _sources(config: MkDocsConfig) -> Iterator[Path]:
    return Path(config.docs_dir).rglob("*.md")


def _leaves(nav: Any) -> Iterator[str]:
    """Return the pages that the navigation names."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from _leaves(part)


def _expanded(nav: Any, others: list[str]) -> Any:
    """Return the navigation with every `folder/*` as the pages of `others` that are in it."""
    if isinstance(nav, str):
        folder = nav.removesuffix("*")
        return nav if folder == nav else [page for page in others if page.startswith(folder)]
    if isinstance(nav, dict):
        return {title: _expanded(part, others) for title, part in nav.items()}
    parts: list[Any] = []
    for part in nav:
        found = _expanded(part, others)
        is_pattern = isinstance(part, str) and isinstance(found, list)
        if is_pattern:
            parts += found
        elif not (isinstance(part, dict) and [] in found.values()):
            parts.append(found)
    return parts
