"""What one `kedro run --env test` goes through: functions and files of the package, loads, fsyncs.

    python benchmarks/calls.py

The run happens in a project of its own, in this process, under `sys.setprofile`. A function
counts once, however often it is called; lambdas, comprehensions and module bodies do not count.
"""

from __future__ import annotations

import collections
import contextlib
import inspect
import io
import os
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from common import copy_project, report

_LOADS = {"ImagesDataset": "image_table_loads", "KerasModelDataset": "model_loads"}


class Calls:
    """Counts the calls of a process while it is its profiler.

    Attributes:
        functions: File and qualified name of each function of the package that was called.
        counts: Loads of image tables and of Keras models, and calls of `os.fsync`.
    """

    def __init__(self, package: Path) -> None:
        self.functions: set[tuple[str, str]] = set()
        self.counts: collections.Counter[str] = collections.Counter()
        self._package = str(package)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call" and argument is os.fsync:
            self.counts["fsyncs"] += 1
        elif event == "call" and frame.f_code.co_filename.startswith(self._package):
            self._count(frame)

    def _count(self, frame: FrameType) -> None:
        code = frame.f_code
        body_of_class = not code.co_flags & inspect.CO_OPTIMIZED
        if body_of_class or code.co_name.startswith("<"):
            return
        self.functions.add((code.co_filename, code.co_qualname))
        owner = type(frame.f_locals.get("self")).__name__
        if code.co_name == "load" and owner in _LOADS:
            self.counts[_LOADS[owner]] += 1


def main() -> None:
    """Run, and print the counts as one line of JSON."""
    import mnist_vae

    calls = Calls(Path(mnist_vae.__file__).parent)
    sys.argv = ["kedro", "run", "--env", "test"]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(copy_project(Path(folder) / "project"))
        from kedro.framework.cli.cli import main as kedro  # it logs as the project there says

        threading.setprofile(calls)
        sys.setprofile(calls)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
                kedro()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
    counts = {name: calls.counts[name] for name in (*_LOADS.values(), "fsyncs")}
    files = {file for file, _ in calls.functions}
    report("calls", {"functions": len(calls.functions), "files": len(files), **counts})


if __name__ == "__main__":
    main()
