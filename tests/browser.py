"""Chromium for tests, driven by Playwright."""

from __future__ import annotations

import contextlib
import functools
import http.server
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.loopback import serving

DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Yield a headless browser of Playwright, or skip the test."""
    pytest.importorskip("playwright", reason="the extra `all` is needed")
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("a browser is needed: install Chromium")
    with sync_playwright() as playwright:
        # Its sandbox wants rights that a container seldom has.
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with contextlib.closing(opened):
            yield opened


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def static_server(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback, and yield the address, with a slash at its end."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as address:
        yield f"{address}/"


class Watched:
    """A page of the browser whose requests and complaints are noted.

    Attributes:
        requests: The addresses that it asked for.
        complaints: Errors and warnings of its console, and requests that failed, but for those
            that ended as their page was left.
    """

    def __init__(self, opened: Any, **context: Any) -> None:
        """Open the page; `context` is that of Playwright's `new_context`."""
        self.context = opened.new_context(**context)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("requestfailed", self._note_failure)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._note)

    def close(self, home: str) -> None:
        """Close the page, which had no complaint and asked only for what begins with `home`."""
        self.context.close()
        own = (home, "data:", "blob:")
        assert [url for url in self.requests if not url.startswith(own)] == []
        assert [said for said in self.complaints if "GPU stall" not in said] == []

    def _note_failure(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(request.url)

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


def serious_faults(page: Any) -> list[tuple[str, list[str]]]:
    """Return what keeps readers out of a page, by axe-core: rule and elements."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="the extra `all` is needed"
    )
    return [
        (fault["id"], [node["html"][:120] for node in fault["nodes"]])
        for fault in axe.Axe().run(page).response["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
