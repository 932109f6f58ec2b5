"""Which code and which libraries this is, as the environment has them."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mnist_vae import __version__

COMMIT = "MNIST_VAE_COMMIT"
"""The environment variable that names the commit where there is no git, as in an image."""

_PACKAGES = (
    "kedro",
    "kedro-datasets",
    "keras",
    "mlxtend",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "tensorflow",
)


def provenance() -> dict[str, Any]:
    """Return `date` (UTC), `versions`, by package, and `git_commit`, None where it is not known.

    The commit is `<hash>-dirty` when files differ from it.
    """
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {
            "mnist-vae": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
        "git_commit": os.environ.get(COMMIT) or _git_commit(),
    }


def _git_commit() -> str | None:
    """Return the commit of the repository that tracks this file, whatever other is around it."""
    here = Path(__file__)
    # In a hook of git these name the repository of the hook.
    around = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    environment = {name: value for name, value in os.environ.items() if name not in around}

    def git(*arguments: str) -> str:
        finished = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607 - the user's own
            cwd=here.parent,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        return finished.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        return git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None
