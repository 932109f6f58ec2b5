"""Versions of datasets that belong together, such as the files of a trained model."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

_VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\d\.\d{3}Z")  # as Kedro names them


def remove_old_versions(
    files: Sequence[Path],
    keep: int,
    is_needed: Callable[[str], bool],
    others: Sequence[Path] = (),
) -> list[str]:
    """Remove all but the newest versions of files that are saved together.

    A version counts when all files have it; what a killed run left of an older one is removed too.
    Folders that Kedro did not name are left alone.

    Args:
        files: The path of each, `<file>/<version>/<file name>` on a local disk.
        keep: Whole versions that stay, newest first.
        is_needed: Whether a version must stay all the same.
        others: The paths of files that go with these, and that a whole version may lack.

    Returns:
        The versions that were removed, newest first.

    Raises:
        OSError: One cannot be removed.
    """
    versions = [
        {path.name for path in file.glob("*") if _VERSION.fullmatch(path.name)}
        for file in (*files, *others)
    ]
    whole = sorted(set.intersection(*versions[: len(files)]), reverse=True)
    if len(whole) < keep:
        return []
    oldest = whole[keep - 1]
    old = (version for version in set.union(*versions) if version < oldest)
    unneeded = sorted((version for version in old if not is_needed(version)), reverse=True)
    for version in unneeded:
        for file in (*files, *others):
            if (file / version).is_dir():
                shutil.rmtree(file / version)
    return unneeded
