"""The page as a folder of files: what the package has of it, ONNX Runtime, and the model's data."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path, PurePosixPath

import fsspec

from mnist_vae.datasets.atomic import move, partial_beside
from mnist_vae.explorer.data import ExploredModel, write_data
from mnist_vae.explorer.runtime import PACKAGE, VERSION

_MARK = "data/model.json"
_NOTICE = f"""{PACKAGE} {VERSION}, https://github.com/microsoft/onnxruntime

MIT License. Copyright (c) Microsoft Corporation.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def check_target(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier page.

    Raises:
        FileExistsError: It does.
    """
    if folder.exists() and not (folder / _MARK).is_file():
        if folder.is_dir() and not any(folder.iterdir()):
            return
        raise FileExistsError(
            f"The page is not written to {folder}: expected a folder that is not there, is empty "
            "or holds an earlier page, received one with other files; name another folder."
        )


def build_site(
    model: ExploredModel,
    folder: Path,
    runtime: Mapping[str, Path],
    most_images: int,
    seed: int,
) -> None:
    """Write the page to `folder`, whole or not at all; an earlier page there is replaced.

    Args:
        model: What it shows.
        folder: Where it goes; a path to which nobody else writes.
        runtime: The files of ONNX Runtime, by their names in the page.
        most_images: Images that it shows at most.
        seed: Of the sample, where there are more.

    Raises:
        FileExistsError: The folder holds other files.
    """
    check_target(folder)
    target = PurePosixPath(folder.absolute())
    disk = fsspec.filesystem("file")
    target_folder = Path(target)
    target_folder.parent.mkdir(parents=True, exist_ok=True)
    with partial_beside(disk, target) as partial:
        site = Path(partial)
        with as_file(files("mnist_vae").joinpath("explorer", "page")) as page:
            shutil.copytree(page, site)
        (site / "vendor").mkdir()
        for name, path in runtime.items():
            shutil.copyfile(path, site / "vendor" / name)
        (site / "vendor" / "NOTICE.txt").write_text(_NOTICE, encoding="utf-8")
        (site / "data").mkdir()
        write_data(model, site / "data", most_images, seed)
        # Some hosts would pass over folders that they take for their own.
        (site / ".nojekyll").touch()
        if target_folder.exists():
            shutil.rmtree(target_folder)
        move(disk, partial, target, recursive=True)
