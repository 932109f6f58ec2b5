"""Every command of the README and of the site is run by a test, or says why it is not."""

import json
import re
import shutil

import pytest

from tests.documentation.pages import (
    TYPED,
    fences,
    pages,
    releases,
    run_fence,
    served_project,
    write_batch,
)
from tests.projects import ROOT

# Others would be a way past the tests: a shell has one name here.
LANGUAGES = {*TYPED, "", "yaml", "json", "math", "source", "generated", "markdown"}

PAGES = [page for page in pages() if any(fence.is_run for fence in fences(page))]


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_fence_is_run_or_says_why_it_is_not(page):
    for fence in fences(page):
        assert fence.language in LANGUAGES, fence.text
        if fence.comment is None:
            continue
        kind, words = fence.comment
        if kind == "run by":
            assert (ROOT / words).is_file(), f"{words} is not there"
            if words.endswith(".md"):  # another page, whose test runs the very same
                runs = [other.text for other in fences(words) if other.is_run]
                assert fence.text in runs, f"{words} does not run it: {fence.text}"
        else:
            assert len(words.split()) >= 3, f"why is it not run? {fence.text}"
            named = re.findall(r"tests/[\w/]+\.py", words)
            assert all((ROOT / path).is_file() for path in named), words


def test_a_fence_is_found_with_its_comment_and_title(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: it needs a cluster -->\n```bash\na\n```\n\n"
        "```bash\nb\n```\n\n"
        '1. A list\n\n    ```yaml title="conf/local/x.yml"\n    key: 1\n    ```\n'
    )
    first, second, third = fences(page)
    assert first.comment == ("not run", "it needs a cluster")
    assert not first.is_run
    assert second.is_run
    assert (third.writes, third.text) == ("conf/local/x.yml", "key: 1\n")


@pytest.mark.parametrize("page", pages(), ids=str)
def test_no_comment_is_lost(page):
    """A comment that is not right above a fence would be about nothing."""
    text = (ROOT / page).read_text()
    comments = re.findall(r"<!-- (?:not run|run by)", text)
    assert len(comments) == sum(fence.comment is not None for fence in fences(page))


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
    for page in ("retrain", "score-images", "roll-back"):
        for fence in fences(ROOT / f"docs/how-to/{page}.md"):
            if fence.language == "bash" and fence.is_run:
                run_fence(project, fence, {"NAME": releases(project)[0]})
    lines = [
        json.loads(line)
        for job in ("retraining", "scoring")
        for line in (project / f"data/08_reporting/{job}/journal.jsonl").read_text().splitlines()
    ]
    written = {key for line in lines for key in line}
    table = (ROOT / "docs/reference/journal.md").read_text().split("## The fields")[1]
    told = {
        name
        for row in re.findall(r"(?m)^\| (`[^|]+) \|", table)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert written <= told
    # What needs a drifted batch, a damaged release or a killed promotion has no line here.
    assert told - written <= {"adopted", "drifted", "repaired"}
