"""The packaged project, without Kedro's project folder: `mnist-vae` and `python -m mnist_vae`."""

from __future__ import annotations

import logging
import sys
from typing import Any


def main(*args: Any, **kwargs: Any) -> Any:
    """Run a pipeline, as `kedro run` does, with its options.

    The data are in the current folder; `--conf-source` names the configuration.
    """
    # It would say on stdout, which is for the last line of a job, which logging file it reads.
    reader = logging.getLogger("kedro.framework.project")
    reader.disabled = True
    from kedro.framework.project import configure_project

    reader.disabled = False
    configure_project("mnist_vae")
    from mnist_vae.cli import run

    kwargs.setdefault("standalone_mode", not hasattr(sys, "ps1"))
    return run(*args, **kwargs)


if __name__ == "__main__":
    main()
