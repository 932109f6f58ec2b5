"""The packaged project, without Kedro's project folder: `mnist-vae` and `python -m mnist_vae`."""

from __future__ import annotations

import logging
import sys
from typing import Any


def main(*args: Any, **kwargs: Any) -> Any:
    """Run a pipeline, as `kedro run` does, with its options.

    The data are in the current folder; `--conf-source` names the configuration.
    """
    # It says on stdout, where a job's last line is its result, which logging file it reads.
    logging.getLogger("kedro.framework.project").setLevel(logging.WARNING)
    from kedro.framework.project import configure_project

    configure_project("mnist_vae")
    from mnist_vae.cli import run

    kwargs.setdefault("standalone_mode", not hasattr(sys, "ps1"))
    return run(*args, **kwargs)


if __name__ == "__main__":
    main()
