"""What the pages tell a user to type: their fences, and how a test runs them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from click.testing import Result

from mnist_vae.data.archive import read_sample
from mnist_vae.data.idx import IdxDataset
from mnist_vae.explorer.runtime import runtime_folder
from tests.projects import NO_NETWORK, ROOT, change_base, copy_project, kedro_here

TYPED = ("bash", "python")
"""The languages of fences that are run; `yaml` with a title is written to the file of that name."""

_FENCE = re.compile(
    r"(?:<!-- (not run|run by): ([^\n]+) -->\n)?^( *)```([\w-]*) *([^\n]*)\n(.*?)^\3```$",
    re.MULTILINE | re.DOTALL,
)


class Fence(NamedTuple):
    """A block of a page, with its comment: `not run` or `run by`, and the words after it."""

    comment: str | None
    words: str
    language: str
    title: str | None
    text: str

    @property
    def is_run(self) -> bool:
        """Whether the test of its page runs it."""
        return self.comment is None and (self.language in TYPED or self.writes is not None)

    @property
    def writes(self) -> str | None:
        """The file that it is the content of, if it is."""
        return self.title if self.language == "yaml" else None


def pages() -> list[Path]:
    """Return the README and the pages of the site, relative to the project."""
    return [Path("README.md"), *(p.relative_to(ROOT) for p in sorted(ROOT.glob("docs/**/*.md")))]


def fences(page: Path) -> Iterator[Fence]:
    """Return the fences of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for comment, words, indent, language, options, body in _FENCE.findall(text):
        title = re.search(r'title="([^"]*)"', options)
        lines = re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
        yield Fence(comment or None, words, language, title[1] if title else None, lines)


def run_fence(project: Path, fence: Fence, names: Mapping[str, str]) -> None:
    """Do what a fence says, in the project, with the words of `names` in place of the page's.

    Lines that are commands of Kedro alone are run in this process.

    Raises:
        AssertionError: The command failed; with all that it printed.
    """
    text = fence.text
    for placeholder, name in names.items():
        text = re.sub(rf"\b{placeholder}\b", name, text)
    if fence.writes is not None:
        (project / fence.writes).write_text(text)
        return
    lines = [shlex.split(line) for line in text.splitlines()]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in NO_NETWORK.items():
            patch.setenv(name, value)
        if fence.language == "bash" and all(line[:1] == ["kedro"] for line in lines):
            for _, *arguments in lines:
                checked(kedro_here(project, *arguments))
            return
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        program = ["bash", "-euo", "pipefail"] if fence.language == "bash" else ["python"]
        finished = subprocess.run(
            [*program, "-c", text], cwd=project, capture_output=True, text=True, timeout=600
        )
        assert finished.returncode == 0, f"{text}\n{finished.stdout}\n{finished.stderr}"


def checked(finished: Result) -> None:
    assert finished.exit_code == 0, finished.output


# Over those of the environment `test`; that a release goes in service is not what the pages' tests
# are about.
_SMALL = {
    "training": {"epochs": 3},
    "denoising": {"salt_and_pepper": [], "blur": []},
    "evaluation": {"likelihood_images": 20, "refine_steps": 3},
    "retraining": {"first_max_negative_elbo": 2000.0, "min_gain": 0.0, "screen_gain": 0.0},
}


def write_batch(folder: Path, rows: slice, prefix: str = "") -> None:
    """Write these rows of the embedded sample as IDX files of images and labels."""
    sample = read_sample()
    for name, values in (("images-idx3", sample.pictures), ("labels-idx1", sample.label)):
        IdxDataset(filepath=str(folder / f"{prefix}{name}-ubyte.gz")).save(values[rows])


def served_project(folder: Path) -> Path:
    """Return a small project of a user: trained, with two releases, a batch in use, and more to do.

    What is fetched once for all projects of a user has been. What makes it small is in
    `conf/base`, so that every command runs as the page has it; what an environment says goes
    before that, so that the recipes have fewer epochs here.
    """
    runtime_folder()
    project = copy_project(folder)
    for recipe in ("best", "fast"):
        path = project / f"conf/{recipe}/parameters.yml"
        path.write_text(re.sub(r"epochs: \d+", "epochs: 3", path.read_text()))
    (entry,) = (fence for fence in fences(Path("docs/how-to/own-data-set.md")) if fence.writes)
    change_base(project, "catalog", yaml.safe_load(entry.text.replace("fashion", "mnist")))
    small = yaml.safe_load((project / "conf/test/parameters.yml").read_text())
    for values in (small, _SMALL):
        change_base(project, "parameters", values)
    for name in ("mnist", "fashion"):
        write_batch(project / "data/01_raw" / name, slice(0, None, 8), "train-")
        write_batch(project / "data/01_raw" / name, slice(1, None, 25), "t10k-")
    write_batch(project / "data/01_raw/to_embed/monday", slice(2, None, 100))
    retraining = ("retrain", "--env", "prod", "--params")
    checked(kedro_here(project, "run"))
    checked(kedro_here(project, *retraining, "training.epochs=1"))
    write_batch(project / "data/01_raw/incoming/batch-1", slice(3, None, 50))
    checked(kedro_here(project, *retraining, "training.epochs=20"))
    assert len(releases(project)) == 2, "the second candidate was not better"
    return project


def releases(project: Path) -> list[str]:
    """Return the names of the releases, oldest first."""
    return sorted(path.name for path in (project / "data/06_models/releases").glob("[0-9]*"))
