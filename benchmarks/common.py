"""What the benchmark scripts share: their command line, the images, runs, the one line of JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of `FOLDER [--small]`, to which a script may add."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "folder", type=Path, metavar="FOLDER", help="where the four IDX files are, packed or not"
    )
    result.add_argument(
        "--small", action="store_true", help="show quickly that it works; the figures mean nothing"
    )
    return result


def read_images(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the training and the test images of the four IDX files, each uint8 `[n, 784]`."""
    from mnist_vae.data.archive import ImageArchiveDataset

    files = {key: {"name": name} for key, name in FILES.items()}
    archive = ImageArchiveDataset(path=str(folder), order=["folder"], mirrors=[], files=files)
    images = archive.load().images
    return images.pixels[images.split == "train"], images.pixels[images.split == "test"]


def copy_project(folder: Path) -> Path:
    """Copy what `kedro` needs of the project, without data, and return the folder."""
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    for name in ("conf/local", "src"):
        (folder / name).mkdir()
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, folder)
    return folder


def kedro_run(project: Path, pipelines: Sequence[str], env: str = "local", **params: Any) -> None:
    """Run pipelines in a process of its own.

    Args:
        project: A copy of the project.
        pipelines: Their names.
        env: Kedro's environment.
        params: Parameters by their whole names, with `__` for a point.

    Raises:
        RuntimeError: The run failed.
    """
    text = ",".join(f"{key.replace('__', '.')}={value}" for key, value in params.items())
    kedro = [Path(sys.executable).with_name("kedro"), "run", "--env", env]
    finished = subprocess.run(
        [*kedro, "--pipelines", ",".join(pipelines), "--params", text],
        cwd=project,
        capture_output=True,
        text=True,
    )
    if finished.returncode:
        raise RuntimeError(f"A run with {text} failed: {finished.stderr[-1000:]}")


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean of a figure over the seeds, its standard error, and the values themselves."""
    several = len(values) > 1
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if several else None
    return {"mean": float(np.mean(values)), "standard_error": error, "seeds": list(values)}


def say(text: str) -> None:
    """Tell the user, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def machine() -> dict[str, Any]:
    """Return on what the figures were measured, and of which commit."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    # A result that is being renewed is no change of what is measured.
    others = [*git, "diff", "--quiet", "HEAD", "--", ".", ":!benchmarks/results"]
    changed = subprocess.run(others, capture_output=True).returncode == 1
    commit = head.stdout.strip() + ("-dirty" if changed else "")
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "commit": commit or None,
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("keras", "numpy", "tensorflow")},
        },
    }


def report(benchmark: str, result: dict[str, Any]) -> None:
    """Print the result with commit and machine, the one line on stdout."""
    line = {"benchmark": benchmark, **result, "machine": machine()}
    sys.stdout.write(json.dumps(line, allow_nan=False) + "\n")
    sys.stdout.flush()
