"""A server of the page for one machine's own browser."""

from __future__ import annotations

import functools
import re
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
_OURS = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?", re.IGNORECASE)


class _Handler(SimpleHTTPRequestHandler):
    """Files of one folder, each with the type that a browser insists on; silent."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".onnx": "application/octet-stream",
    }

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

    def list_directory(self, path: Any) -> None:
        self.send_error(404)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a browser that leaves before it has the whole file."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def make_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of `folder` on loopback that listens already; port 0 takes any that is free.

    Raises:
        OSError: The port cannot be had.
    """
    return _Server((HOST, port), functools.partial(_Handler, directory=str(folder)))
