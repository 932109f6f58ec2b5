"""Every command of the README and of the site runs, on its page or in the test that it names."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from mnist_vae.data.archive import read_sample
from mnist_vae.data.idx import IdxDataset
from mnist_vae.explorer.runtime import runtime_folder
from tests.projects import NO_NETWORK, ROOT, change_base, copy_project, kedro_here

PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/**/*.md")))]
FENCE = re.compile(
    r"(?:<!-- (?:not run|run by): ([^\n]+) -->\n)?"
    r'^( *)```(bash|sh|shell|console|python|yaml)(?: title="([^"]*)")?[^\n]*\n(.*?)^\2```$',
    re.MULTILINE | re.DOTALL,
)


class Fence(NamedTuple):
    """A block that a user types, or with a title writes to the file of that name."""

    elsewhere: str
    indent: str
    language: str
    title: str
    text: str

    @property
    def is_run(self):
        return not self.elsewhere and (self.language != "yaml" or self.title)


def fences(page):
    found = [Fence(*values) for values in FENCE.findall((ROOT / page).read_text())]
    return [fence._replace(text=textwrap.dedent(fence.text)) for fence in found]


def is_run_by(path, fence):
    """Return whether the file that the comment of a fence names is there, and runs it."""
    if path.endswith(".md"):
        return fence.text in [each.text for each in fences(path) if each.is_run]
    return (ROOT / path).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_a_command_that_its_page_does_not_run_is_run_where_it_says(page):
    for fence in fences(page):
        for path in re.findall(r"(?:tests|docs)/[\w/-]+\.\w+|\.ci/run", fence.elsewhere):
            assert is_run_by(path, fence), (path, fence.text)


# Over those of the environment `test`; that a release goes in service is not what is tried here.
SMALL = {
    "training": {"epochs": 3},
    "denoising": {"salt_and_pepper": [], "blur": []},
    "evaluation": {"likelihood_images": 20, "refine_steps": 3},
    "retraining": {"first_max_negative_elbo": 2000.0, "min_gain": 0.0, "screen_gain": 0.0},
}


def write_batch(folder, rows, prefix=""):
    """Write these rows of the embedded sample as IDX files of images and labels."""
    sample = read_sample()
    for name, values in (("images-idx3", sample.pictures), ("labels-idx1", sample.label)):
        IdxDataset(filepath=str(folder / f"{prefix}{name}-ubyte.gz")).save(values[rows])


def run_kedro(project, *arguments):
    finished = kedro_here(project, *arguments)
    assert finished.exit_code == 0, finished.output


def releases(project):
    """Return the names of the releases, oldest first."""
    return sorted(path.name for path in (project / "data/06_models/releases").glob("[0-9]*"))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A small project of a user: trained, with two releases, a batch in use, and more to do.

    What makes it small is in `conf/base`, so that every command runs as the page has it; what an
    environment says goes before that, so that the recipes have fewer epochs here.
    """
    runtime_folder()  # fetched once for all projects of a user
    project = copy_project(tmp_path_factory.mktemp("documentation") / "project")
    for recipe in ("best", "fast"):
        path = project / f"conf/{recipe}/parameters.yml"
        path.write_text(re.sub(r"epochs: \d+", "epochs: 3", path.read_text()))
    (entry,) = (fence for fence in fences("docs/how-to/own-data-set.md") if fence.title)
    change_base(project, "catalog", yaml.safe_load(entry.text.replace("fashion", "mnist")))
    for values in (yaml.safe_load((project / "conf/test/parameters.yml").read_text()), SMALL):
        change_base(project, "parameters", values)
    for name in ("mnist", "fashion"):
        write_batch(project / "data/01_raw" / name, slice(0, None, 8), "train-")
        write_batch(project / "data/01_raw" / name, slice(1, None, 25), "t10k-")
    write_batch(project / "data/01_raw/to_embed/monday", slice(2, None, 100))
    retraining = ("retrain", "--env", "prod", "--params")
    run_kedro(project, "run")
    run_kedro(project, *retraining, "training.epochs=1")
    write_batch(project / "data/01_raw/incoming/batch-1", slice(3, None, 50))
    run_kedro(project, *retraining, "training.epochs=20")
    assert len(releases(project)) == 2, "the second candidate was not better"
    return project


@pytest.fixture
def project(served, tmp_path):
    return shutil.copytree(served, tmp_path / "project", symlinks=True)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(f.is_run for f in fences(page))])
def test_the_commands_of_a_page_run_in_order(project, monkeypatch, page):
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    oldest, champion = releases(project)
    # The release to go to, and the one that a restore is to serve again.
    release = champion if "restore-a-backup" in page else oldest
    for fence in fences(page):
        if not fence.is_run:
            continue
        text = re.sub(r"\bNAME\b", release, fence.text)
        lines = [shlex.split(line) for line in text.splitlines()]
        if fence.title:
            (project / fence.title).write_text(text)
        elif all(line[:1] == ["kedro"] for line in lines):
            for _, *arguments in lines:
                run_kedro(project, *arguments)
        else:
            is_python = fence.language == "python"
            program = ["python"] if is_python else ["bash", "-euo", "pipefail"]
            finished = subprocess.run(
                [*program, "-c", text], cwd=project, capture_output=True, text=True, timeout=600
            )
            assert finished.returncode == 0, f"{text}\n{finished.stdout}\n{finished.stderr}"


@pytest.mark.slow
def test_the_journal_has_the_fields_of_its_page_and_no_other(project):
    write_batch(project / "data/01_raw/incoming/odd", slice(4, None, 50))
    for command in ("retrain", "score", "roll-back"):
        run_kedro(project, command, "--env", "prod")
    fields = set()
    for journal in project.glob("data/08_reporting/*/journal.jsonl"):
        fields.update(*map(json.loads, journal.read_text().splitlines()))
    table = (ROOT / "docs/reference/journal.md").read_text().split("## The fields")[1]
    rows = re.findall(r"(?m)^\| (`[^|]+) \|", table)
    described = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert fields <= described
    # What needs a drifted batch, a damaged release or a killed promotion has no line here.
    assert described - fields <= {"adopted", "drifted", "repaired"}
