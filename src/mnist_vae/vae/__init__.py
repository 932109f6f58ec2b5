"""The variational autoencoder: networks, losses, training model. Keras only, no Kedro, no files.

Importing this package imports Keras and TensorFlow, which takes many seconds: do so inside node
bodies.
"""

import atexit
import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module

# Lines of level info in TensorFlow's own log, and its warning that they come to stderr.
_CHATTER = "^(I[0-9]{4} |WARNING: All log messages before absl)"

# Keras and TensorFlow Lite import these wherever they are installed, for features that nothing
# here uses. That takes a third of the time. Who needs one of them imports it, before or after.
_FOR_NOTHING = ("IPython", "jax", "matplotlib", "sklearn")


def _import_keras() -> None:
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever Keras' own file says
    with _as_if_not_installed(_FOR_NOTHING), _out_of_the_way_of_the_collector():
        import_module("keras")


@contextmanager
def _as_if_not_installed(names: Collection[str]) -> Iterator[None]:
    """Let imports of these modules fail, but for those that are there already."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def _out_of_the_way_of_the_collector() -> Iterator[None]:
    """Keep what is imported from the garbage collector, which would find nothing to collect there.

    It need not look through all of it again and again, neither meanwhile nor in the hours after. At
    the end it does, as libraries of nanobind complain of what is left.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.collect()  # failed imports leave cycles that hold the frames of all callers
        gc.freeze()
        atexit.register(gc.unfreeze)
        if collects:
            gc.enable()


def _import_keras_quietly() -> None:
    """Import Keras without TensorFlow's start-up chatter.

    Its first lines are written before any log level is read. So the file descriptor of stderr
    leads through `grep` while the library loads. That is a process of its own: what else is
    written there is seen at once, and also when TensorFlow crashes.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    grep = shutil.which("grep")
    if grep is None:
        _import_keras()
        return
    stderr = os.dup(2)
    out, into = os.pipe()
    command = [grep, "--text", "--line-buffered", "-Ev", _CHATTER]
    process = subprocess.Popen(command, stdin=out, stdout=stderr)  # noqa: S603
    os.close(out)
    os.dup2(into, 2)
    os.close(into)
    try:
        _import_keras()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        # What another thread has started meanwhile has the pipe too, and may live for long.
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)


_import_keras_quietly()
