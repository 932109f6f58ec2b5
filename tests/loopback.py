"""Servers on loopback: of any kind, and one that never comes to the end of its answer."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[str]:
    """Have a server answer from a thread of its own, and yield its address."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def dripping_server(answer: bytes = b"") -> Iterator[str]:
    """Yield the address of a server that sends `answer`, and then a byte each tenth of a second.

    No read of it ever has to wait for long.
    """
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            with contextlib.suppress(OSError):
                self.request.recv(1 << 16)
                self.request.sendall(answer or b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not over.wait(0.1):
                    self.request.sendall(b"x")

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as address:
        try:
            yield address
        finally:
            over.set()
