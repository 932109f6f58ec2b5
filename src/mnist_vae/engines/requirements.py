"""What an engine needs, looked at before any work."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

from mnist_vae.engines.errors import EngineError
from mnist_vae.params import EmbeddingParams

_PACKAGES = {"dask": "distributed", "spark": "pyspark"}
_SCHEMES = {"dask": ("tcp", "tls"), "spark": ("spark",)}
_SECONDS = 10


def check_engine(params: EmbeddingParams) -> None:
    """Refuse an engine that is not installed, or that nobody answers for.

    Raises:
        EngineError: In one sentence, what is missing.
    """
    package = _PACKAGES.get(params.engine)
    if package is None:
        return
    if importlib.util.find_spec(package) is None:
        raise EngineError(
            f"The engine {params.engine} is not installed: expected the package {package}, "
            f"received none; run `pip install -c constraints.txt -e '.[{params.engine}]'`, or set "
            "`embedding.engine` to in_process."
        )
    if params.engine == "spark" and not _has_java():
        raise EngineError(
            "Spark needs Java: expected `java` on the PATH or in JAVA_HOME, received none; install "
            "Java 17 or later, or set `embedding.engine` to in_process."
        )
    if params.address is not None:
        _check_address(params.address, _SCHEMES[params.engine])


def _has_java() -> bool:
    home = os.environ.get("JAVA_HOME")
    return bool(home and (Path(home) / "bin/java").exists()) or shutil.which("java") is not None


def _check_address(address: str, schemes: tuple[str, ...]) -> None:
    """Refuse an address where nobody listens; others, such as `yarn`, are the engine's to judge."""
    parts = urlsplit(address)
    if parts.scheme not in schemes:
        return
    try:
        host_and_port = parts.hostname or "", parts.port or 0
        socket.create_connection(host_and_port, timeout=_SECONDS).close()
    except (OSError, ValueError) as error:
        raise EngineError(
            f"There is no engine at {address}: expected one that listens there, received "
            f"{error}; start it, or correct `embedding.address`."
        ) from error
