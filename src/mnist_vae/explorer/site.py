"""The page as a folder of files: what the package has of it, ONNX Runtime, and the model's data."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

import click

from mnist_vae.explorer.data import ExploredModel, write_data

_MARKER = "made-by-kedro-explore.txt"


def check_target(folder: Path) -> None:
    """Raise a ClickException if a folder has files, but no earlier page."""
    others = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if others and _MARKER not in others:
        raise click.ClickException(
            f"The page is not written to {folder}: expected a folder that is not there, is empty "
            f"or holds an earlier page, received one with other files, such as {others[0]}; name "
            "another folder."
        )


def build_site(
    model: ExploredModel,
    folder: Path,
    runtime: Mapping[str, Path],
    most_images: int,
    seed: int,
) -> None:
    """Write the page to `folder`, over an earlier one; other files there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).write_text(
        "`kedro explore --build` wrote this page, and writes over it.\n", encoding="utf-8"
    )
    with as_file(files("mnist_vae").joinpath("explorer", "page")) as page:
        shutil.copytree(page, folder, dirs_exist_ok=True)
    for name, path in runtime.items():
        shutil.copyfile(path, folder / "vendor" / name)
    # Some hosts would pass over folders that they take for their own.
    (folder / ".nojekyll").touch()
    data = folder / "data"
    data.mkdir(exist_ok=True)
    for sheet in data.glob("sheet-*.png"):  # a page of fewer images has fewer
        sheet.unlink()
    write_data(model, data, most_images, seed)
