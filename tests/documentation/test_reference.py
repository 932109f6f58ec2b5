"""The reference has everything that there is, without a build of the site."""

import re

import pytest
import reference
import snippets
import yaml

from mnist_vae.jobs.records import Outcome
from mnist_vae.params import Parameters
from mnist_vae.pipeline_registry import register_pipelines
from tests.projects import ROOT


def leaves(group, path=""):
    """Yield the names of all parameters, such as `training.epochs`."""
    for name, field in group.model_fields.items():
        inner = reference._group(field.annotation)
        if inner is None:
            yield f"{path}{name}"
        else:
            yield from leaves(inner, f"{path}{name}.")


def test_every_parameter_is_there_with_what_it_is():
    group, found = "", {}
    for line in reference.parameters().splitlines():
        if match := re.match(r"## `([\w.]+)`", line):
            group = match[1] + "."
        elif match := re.match(r"\| `(\w+)`<br>", line):
            found[group + match[1]] = line
    assert set(found) == set(leaves(Parameters))
    assert not [name for name, line in found.items() if re.search(r"\|\s*(<br>|\|$)", line)]


def test_a_parameter_has_its_default_and_its_range():
    text = reference.parameters()
    assert "| `hidden_units`<br>`[512, 256]` |" in text
    assert "<br>*list of: integer, > 0*" in text
    assert "<br>*integer, ≥ 100, or `null`*" in text


def test_every_pipeline_is_in_the_table_for_people_and_has_its_nodes():
    page = (ROOT / "docs/reference/pipelines.md").read_text()
    assert set(re.findall(r"(?m)^\| `(\w+)` \|", page)) == set(register_pipelines())
    nodes = reference.nodes()
    for name, pipeline in register_pipelines().items():
        assert f"### `{name}`" in nodes
        assert all(f"| `{node.name}` |" in nodes for node in pipeline.nodes)


def test_every_entry_of_the_catalog_is_there():
    text = reference.catalog()
    entries = {
        name
        for path in (ROOT / "conf/base").glob("catalog*.yml")
        for name in yaml.safe_load(path.read_text())
        if not name.startswith("_")
    }
    assert set(re.findall(r"(?m)^\| `([\w{}]+)`<br>", text)) == entries


def test_every_outcome_is_there_with_its_code():
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \| (\d+) \|", reference.exit_codes()))
    assert rows == {outcome: str(outcome.exit_code) for outcome in Outcome}
    page = (ROOT / "docs/reference/exit-codes.md").read_text()
    assert all(f"`{outcome}`" in page for outcome in Outcome)


def test_every_group_that_a_page_links_to_is_there():
    text = reference.parameters()
    anchors = set(re.findall(r"\{ #([\w-]+) \}", text))
    pages = (page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    linked = {link for page in pages for link in re.findall(r"parameters\.md#([\w-]+)", page)}
    assert linked <= anchors


def named_in(kind):
    """Return the pages' names of a fence, such as `source`, with the pages."""
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for name in re.findall(rf"(?m)^```{kind}\n(.+)\n```$", page.read_text()):
            yield pytest.param(name, id=f"{page.stem}: {name}")


@pytest.mark.parametrize("name", list(named_in("source")))
def test_the_code_next_to_an_equation_is_that_of_the_package(name):
    code = snippets.fence(name)
    assert re.search(rf"(def|class) {name.rpartition('.')[2]}\b", code)
    where, line = re.search(r'title="(.+), line (\d+)"', code).groups()
    first = code.splitlines()[1].strip()
    assert (ROOT / where).read_text().splitlines()[int(line) - 1].strip() == first


def test_code_that_is_not_there_is_refused():
    with pytest.raises(LookupError, match="there is no mnist_vae"):
        snippets.fence("mnist_vae.vae.losses.no_such_loss")


@pytest.mark.parametrize("name", list(named_in("generated")))
def test_what_a_page_has_generated_can_be(name):
    assert reference.GENERATED[name]().startswith(("|", "#"))


def test_every_module_has_its_place_in_the_api():
    text = "\n".join(reference.api_pages().values())
    listed = set(re.findall(r"(?m)^::: ([\w.]+)$", text))
    source = ROOT / "src"
    modules = {
        ".".join(path.relative_to(source).with_suffix("").parts)
        for path in (source / "mnist_vae").rglob("*.py")
        if re.search(r"(?m)^(def|class) ", path.read_text())
        # The nodes of the others are on the page of the pipelines.
        and path.with_name("__init__.py").exists()
    }
    packages = {f"{name}.__init__" for name in listed}
    assert modules - listed - packages == {"mnist_vae.__main__"}  # the command alone


@pytest.mark.slow  # MkDocs is in another extra
def test_a_page_in_no_navigation_is_added_at_the_end_of_its_folder():
    pages = pytest.importorskip("pages", reason="the extra `docs` is needed")
    nav = [{"Guides": ["guides/index.md", {"More": ["guides/*"]}]}, {"API": "api/*"}]
    others = ["api/a.md", "guides/new.md", "guides/other.md"]
    assert pages._expanded(nav, others) == [
        {"Guides": ["guides/index.md", {"More": ["guides/new.md", "guides/other.md"]}]},
        {"API": ["api/a.md"]},
    ]
    assert pages._expanded(nav, ["api/a.md"])[0] == {"Guides": ["guides/index.md"]}
