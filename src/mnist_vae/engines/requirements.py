"""What an engine needs, looked at before any work."""

from __future__ import annotations

import importlib.util
import socket
from urllib.parse import urlsplit

from mnist_vae.engines.errors import EngineError
from mnist_vae.params import EmbeddingParams

_SECONDS = 10


def check_engine(params: EmbeddingParams) -> None:
    """Refuse an engine that is not installed, or that nobody answers for.

    Raises:
        EngineError: In one sentence, what is missing.
    """
    if params.engine == "in_process":
        return
    if importlib.util.find_spec("distributed") is None:
        raise EngineError(
            "The engine dask is not installed: expected the package distributed, received none; "
            "run `pip install -c constraints.txt -e '.[dask]'`, or set `embedding.engine` to "
            "in_process."
        )
    if params.address is not None:
        _check_address(params.address)


def _check_address(address: str) -> None:
    """Refuse an address where nobody listens; schemes other than these are Dask's to judge."""
    parts = urlsplit(address)
    if parts.scheme not in ("tcp", "tls"):
        return
    try:
        host_and_port = parts.hostname or "", parts.port or 0
        socket.create_connection(host_and_port, timeout=_SECONDS).close()
    except (OSError, ValueError) as error:
        raise EngineError(
            f"There is no engine at {address}: expected one that listens there, received "
            f"{error}; start it, or correct `embedding.address`."
        ) from error
