"""Every command of the README and of the site is run by a test, or says why it is not."""

import json
import re
import shutil

import pytest

from tests.documentation.pages import (
    TYPED,
    checked,
    fences,
    pages,
    releases,
    run_fence,
    served_project,
    write_batch,
)
from tests.projects import ROOT, kedro_here

# Others would be a way past the tests: a shell has one name here.
LANGUAGES = {*TYPED, "", "yaml", "json", "math", "source", "generated", "markdown"}

PAGES = [page for page in pages() if any(fence.is_run for fence in fences(page))]


def faults(page):
    """Yield the fences of a page that no test runs, and for which no reason is given."""
    found = list(fences(page))
    for fence in found:
        kind, words = fence.comment or (None, "")
        if fence.language not in LANGUAGES:
            yield f"{page}: not one of {sorted(LANGUAGES)}: {fence.text}"
        elif kind == "run by" and not (ROOT / words).is_file():
            yield f"{page}: {words} is not there"
        elif kind == "run by" and words.endswith(".md"):  # another page, which runs the very same
            if fence.text not in [other.text for other in fences(words) if other.is_run]:
                yield f"{page}: {words} does not run it: {fence.text}"
        elif kind == "not run":
            named = re.findall(r"tests/[\w/]+\.py", words)
            if len(words.split()) < 3 or not all((ROOT / path).is_file() for path in named):
                yield f"{page}: why is it not run? {fence.text}"
    comments = re.findall(r"<!-- (?:not run|run by)", (ROOT / page).read_text())
    if len(comments) != sum(fence.comment is not None for fence in found):
        yield f"{page}: a comment is not right above a fence"


def test_every_fence_is_run_or_says_why_it_is_not():
    assert [fault for page in pages() for fault in faults(page)] == []


def test_the_checks_read_their_commands_from_the_readme():
    script = (ROOT / ".ci/run").read_text()
    readme = (ROOT / "README.md").read_text()
    patterns = re.findall(r"in_readme '(.+?)'", script)
    by_the_checks = [
        fence.text.strip()
        for fence in fences(ROOT / "README.md")
        if fence.comment == ("run by", ".ci/run")
    ]
    found = [re.search(rf"(?m)^.*{pattern}.*$", readme)[0] for pattern in patterns]
    assert sorted(found) == sorted(by_the_checks)


def test_the_readme_takes_ten_minutes():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 110


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    return served_project(tmp_path_factory.mktemp("documentation") / "project")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_commands_of_a_page_run_in_order(served, tmp_path, page):
    project = shutil.copytree(served, tmp_path / "project", symlinks=True)
    oldest, champion = releases(project)
    # The release to go to, and the one that a restore is to serve again.
    names = {"NAME": champion if page.stem == "restore-a-backup" else oldest}
    for fence in fences(page):
        if fence.is_run:
            run_fence(project, fence, names)


@pytest.mark.slow
def test_the_journal_has_the_fields_of_its_page_and_no_other(served, tmp_path):
    project = shutil.copytree(served, tmp_path / "project", symlinks=True)
    write_batch(project / "data/01_raw/incoming/odd", slice(4, None, 50))
    for command in ("retrain", "score", "roll-back"):
        checked(kedro_here(project, command, "--env", "prod"))
    fields = set()
    for journal in project.glob("data/08_reporting/*/journal.jsonl"):
        fields.update(*map(json.loads, journal.read_text().splitlines()))
    table = (ROOT / "docs/reference/journal.md").read_text().split("## The fields")[1]
    described = {
        name
        for row in re.findall(r"(?m)^\| (`[^|]+) \|", table)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert fields <= described
    # What needs a drifted batch, a damaged release or a killed promotion has no line here.
    assert described - fields <= {"adopted", "drifted", "repaired"}
