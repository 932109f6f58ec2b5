"""The page as a folder of files: what the package has of it, ONNX Runtime, and the model's data."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path, PurePosixPath

import click
import fsspec

from mnist_vae.data.disk import partial_beside
from mnist_vae.explorer.data import ExploredModel, write_data

_MARKER = "made-by-kedro-explore.txt"
_MARKED = "`kedro explore --build` wrote these files, and replaces them as a whole:"


def check_target(folder: Path) -> None:
    """Raise a ClickException if a folder holds other files, or the command runs in it."""
    folder = folder.resolve()
    marker = folder / _MARKER
    ours = marker.read_text(encoding="utf-8").splitlines() if marker.is_file() else []
    others = [name for name in _names(folder) if name not in ours]
    received = f"one with other files, such as {others[0]}" if others else ""
    if Path.cwd().is_relative_to(folder):
        received = "the one that this command runs in"
    if received:
        raise click.ClickException(
            f"The page is not written to {folder}: expected a folder that is not there, is empty "
            f"or holds an earlier page alone, received {received}; name another folder."
        )


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*")]


def build_site(
    model: ExploredModel,
    folder: Path,
    runtime: Mapping[str, Path],
    most_images: int,
    seed: int,
) -> None:
    """Write the page to `folder`, whole or not at all; an earlier page there is replaced.

    Raises:
        click.ClickException: The folder holds other files.
    """
    target = folder.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with partial_beside(fsspec.filesystem("file"), PurePosixPath(target)) as partial:
        site = Path(partial)
        with as_file(files("mnist_vae").joinpath("explorer", "page")) as page:
            shutil.copytree(page, site)
        for name, path in runtime.items():
            shutil.copyfile(path, site / "vendor" / name)
        (site / "data").mkdir()
        write_data(model, site / "data", most_images, seed)
        # Some hosts would pass over folders that they take for their own.
        (site / ".nojekyll").touch()
        names = [_MARKED, _MARKER, *sorted(_names(site))]
        (site / _MARKER).write_text("\n".join(names), encoding="utf-8")
        check_target(target)
        if target.exists():
            shutil.rmtree(target)
        site.rename(target)
