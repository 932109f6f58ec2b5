"""The reference has everything that there is, without a build of the site."""

import re

import reference
import snippets
import yaml

from mnist_vae.jobs.records import Outcome
from mnist_vae.params import Parameters
from mnist_vae.pipeline_registry import register_pipelines
from tests.documentation.pages import fences, pages
from tests.projects import ROOT


def test_every_parameter_is_there_with_what_it_is_its_default_and_its_range():
    group, found = "", {}
    text = reference.parameters()
    for line in text.splitlines():
        if match := re.match(r"## `([\w.]+)`", line):
            group = match[1] + "."
        elif match := re.match(r"\| `(\w+)`<br>", line):
            found[group + match[1]] = line
    expected = set()
    for name, field in Parameters.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        expected |= {name} if inner is None else {f"{name}.{key}" for key in inner}
    assert set(found) == expected
    assert not [name for name, line in found.items() if re.search(r"\|\s*(<br>|\|$)", line)]
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
    files = [yaml.safe_load(path.read_text()) for path in ROOT.glob("conf/base/catalog*.yml")]
    entries = {name for file in files for name in file if not name.startswith("_")}
    assert set(re.findall(r"(?m)^\| `([\w{}]+)`<br>", reference.catalog())) == entries


def test_every_outcome_is_there_with_its_code():
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \| (\d+) \|", reference.exit_codes()))
    assert rows == {outcome: str(outcome.exit_code) for outcome in Outcome}
    page = (ROOT / "docs/reference/exit-codes.md").read_text()
    assert all(f"`{outcome}`" in page for outcome in Outcome)


def test_the_code_next_to_an_equation_is_that_of_the_package():
    named = [
        each.text.strip() for page in pages() for each in fences(page) if each.language == "source"
    ]
    assert named
    for name in named:
        code = snippets.fence(name)
        assert re.search(rf"(def|class) {name.rpartition('.')[2]}\b", code), name
        where, line = re.search(r'title="(.+), line (\d+)"', code).groups()
        first = code.splitlines()[1].strip()
        assert (ROOT / where).read_text().splitlines()[int(line) - 1].strip() == first, name


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
