"""The packaged project, without Kedro's project folder: `mnist-vae` and `python -m mnist_vae`."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

_JOBS = ("retrain", "score", "roll-back", "withdraw")


def main(*args: Any, **kwargs: Any) -> Any:
    """Run a pipeline as `kedro run` does, or the command of a job, which is then the first word."""
    # It would say on stdout, which is for the last line of a job, which logging file it reads.
    logging.disable(logging.INFO)
    from kedro.framework.project import configure_project

    logging.disable(logging.NOTSET)
    package = Path(__file__).parent.name
    configure_project(package)
    kwargs.setdefault("standalone_mode", not hasattr(sys, "ps1"))
    words = args[0] if args and args[0] is not None else sys.argv[1:]
    commands = import_module(f"{package}.cli")  # as Kedro's own `find_run_command` does
    command = commands.cli if words and words[0] in _JOBS else commands.run
    kwargs.setdefault("prog_name", command.name)  # Kedro reads the section of this name in a file
    return command(*args, **kwargs)


if __name__ == "__main__":
    main()
