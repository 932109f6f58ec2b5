"""A file from a mirror, which is in its folder only when it has passed all checks."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mnist_vae.data.deadline import within
from mnist_vae.data.idx import IdxError

_SECONDS_A_FILE = 900  # to download it, however slowly a mirror sends


def unreachable(url: str, timeout: float) -> str | None:
    """Return why nothing answers at `url` within `timeout` seconds, or None when something does.

    Any answer will do, also an error of the server: the download shows it.
    """
    import requests

    try:
        within(timeout, partial(requests.head, url, timeout=timeout, allow_redirects=True))
    except TimeoutError:  # not of `requests`, which has one for each address
        return f"is not reachable (no answer within {timeout:g} s)"
    except (OSError, ValueError) as error:
        return f"is not reachable ({type(error).__name__})"
    return None


def download(
    mirror: str,
    name: str,
    folder: Path,
    *,
    timeout: float,
    max_bytes: int,
    check: Callable[[Path, str], object],
) -> None:
    """Download a file into a folder; what fails for a passing reason is tried once more.

    Args:
        mirror: Base URL.
        name: Name of the file there and in the folder.
        folder: Where it goes.
        timeout: Seconds that a download may stall.
        max_bytes: Refuse a file that is larger than this.
        check: Raises for a path and the URL of what was downloaded, if that is not the file.

    Raises:
        IdxError: It is too large, or did not pass the check.
        OSError: It could not be downloaded, or took a quarter of an hour.
    """
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # it writes past Kedro's handlers
    get = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16, timeout=timeout)

    def downloader(url: str, path: str, _: pooch.Pooch) -> None:
        with _Limited(path, max_bytes, url) as file:
            get(url, file, None)
        check(Path(path), url)
        Path(path).chmod(0o644)  # a temporary file is for its owner only

    mirrored = pooch.create(path=folder, base_url=mirror, registry={name: None}, retry_if_failed=1)
    within(_SECONDS_A_FILE, partial(mirrored.fetch, name, downloader=downloader))


class _Limited(io.FileIO):
    """A file that does not grow past `max_bytes`, whatever a mirror sends."""

    def __init__(self, path: str, max_bytes: int, url: str) -> None:
        super().__init__(path, "wb")
        self._max_bytes, self._url = max_bytes, url

    def write(self, chunk: bytes) -> int:  # type: ignore[override]
        if self.tell() + len(chunk) > self._max_bytes:
            raise IdxError(
                f"{self._url} is too large: expected a download of at most {self._max_bytes} "
                "bytes, received more; use another mirror, or raise `max_bytes`."
            )
        return super().write(chunk)
