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
    """Yield what is wrong with the fences of a page: no test runs it, and no reason is given."""
    found = list(fences(page))
    for fence in found:
        if fence.language not in LANGUAGES:
            yield f"not one of {sorted(LANGUAGES)}: {fence.text}"
        elif fence.comment == "run by" and not (ROOT / fence.words).is_file():
            yield f"{fence.words} is not there"
        elif fence.comment == "run by" and fence.words.endswith(".md"):
            if fence.text not in [other.text for other in fences(fence.words) if other.is_run]:
                yield f"{fence.words} does not run the very same: {fence.text}"
        elif fence.comment == "not run":
            named = re.findall(r"tests/[\w/]+\.py", fence.words)
            if len(fence.words.split()) < 3 or not all((ROOT / path).is_file() for path in named):
                yield f"why is it not run? {fence.text}"
    comments = re.findall(r"<!-- (?:not run|run by)", (ROOT / page).read_text())
    if len(comments) != sum(fence.comment is not None for fence in found):
        yield "a comment is not right above a fence"


def test_every_fence_is_run_or_says_why_it_is_not():
    assert [(page, fault) for page in pages() for fault in faults(page)] == []


def test_the_checks_read_their_commands_from_the_readme():
    patterns = re.findall(r"in_readme '(.+?)'", (ROOT / ".ci/run").read_text())
    readme = (ROOT / "README.md").read_text()
    by_the_checks = [each.text.strip() for each in fences("README.md") if each.words == ".ci/run"]
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
    rows = re.findall(r"(?m)^\| (`[^|]+) \|", table)
    described = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert fields <= described
    # What needs a drifted batch, a damaged release or a killed promotion has no line here.
    assert described - fields <= {"adopted", "drifted", "repaired"}
