"""The page: a folder of files, and a server of it for this machine's own browser."""

from __future__ import annotations

import functools
import re
import shutil
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import click

from mnist_vae.explorer.data import ExploredModel, write_data

HOST = "127.0.0.1"
_OURS = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?", re.IGNORECASE)
_MARKER = "made-by-kedro-explore.txt"


def check_target(folder: Path) -> None:
    """Raise a ClickException if a folder has files, but no earlier page."""
    others = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if others and _MARKER not in others:
        raise click.ClickException(
            f"The page is not written to {folder}: expected a folder that is not there, is empty "
            f"or holds an earlier page, received one with other files, such as {others[0]}; name "
            "another folder."
        )


def build_site(
    model: ExploredModel, folder: Path, runtime: Path, most_images: int, seed: int
) -> None:
    """Write the page to `folder`, over an earlier one; other files there stay."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).write_text(
        "`kedro explore --build` wrote this page, and writes over it.\n", encoding="utf-8"
    )
    with as_file(files("mnist_vae").joinpath("explorer", "page")) as page:
        shutil.copytree(page, folder, dirs_exist_ok=True)
    shutil.copytree(runtime, folder / "vendor", dirs_exist_ok=True)
    # Some hosts would pass over folders that they take for their own.
    (folder / ".nojekyll").touch()
    for sheet in data.glob("sheet-*.png"):  # a page of fewer images has fewer
        sheet.unlink()
    write_data(model, data, most_images, seed)


def make_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of `folder` on loopback that listens already; port 0 takes any that is free.

    Raises:
        click.ClickException: The port cannot be had.
    """
    try:
        return _Server((HOST, port), functools.partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise click.ClickException(
            f"The explorer cannot listen on port {port}: expected a free one, received "
            f"{error.strerror}; name another with --port, or 0 for any that is free."
        ) from error


class _Handler(SimpleHTTPRequestHandler):
    """Files of one folder; silent."""

    def send_head(self) -> Any:
        """Answer to names of this machine alone: others may lead here too (DNS rebinding)."""
        host = self.headers.get("Host", "")
        if _OURS.fullmatch(host):
            return super().send_head()
        self.send_error(
            403,
            explain="The explorer answers on this machine alone: expected localhost, 127.0.0.1 or "
            f"[::1], received the host {host!r}; open the address that the command has printed.",
        )
        return None

    def end_headers(self) -> None:
        """Have the browser ask again for what another model may have changed, and share nothing."""
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        super().end_headers()

    def log_message(self, *_: Any) -> None: ...


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a browser that leaves before it has the whole file."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
