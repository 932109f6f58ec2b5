"""The parts of the reference that are made of the package and of its configuration."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from kedro.config import OmegaConfigLoader
from kedro.pipeline import Node, Pipeline
from kedro.utils import load_obj
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mnist_vae.jobs.records import Outcome
from mnist_vae.monitoring import HELP
from mnist_vae.params import Parameters
from mnist_vae.pipeline_registry import register_pipelines

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/mnist_vae"
BASE = ROOT / "conf/base"

_LAYERS = {
    "raw": "Raw",
    "intermediate": "Intermediate",
    "model_input": "Model input",
    "models": "Models",
    "model_output": "Model output",
    "reporting": "Reporting",
    None: "Jobs, and what has no layer",
}
_OF_THE_FILE = "What the pipeline"  # so begins a comment about all entries of a file
_HEAD = ["Parameter and default", "What it is, and its values"]
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


@cache
def pipelines() -> dict[str, Pipeline]:
    """Return the registered pipelines."""
    return register_pipelines()


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def parameters() -> str:
    """Return a table of the parameters that have no group, and a section for each group."""
    alone = {}
    parts = []
    for name, field in Parameters.model_fields.items():
        group = _group(field.annotation)
        if group is None:
            alone[name] = field
        else:
            parts += _of_group(name, group)
    given = yaml.safe_load((BASE / "parameters.yml").read_text(encoding="utf-8"))
    own, comments = attribute_docstrings(Parameters), _comments("")
    rows = []
    for name, field in alone.items():
        default = f"`{given[name]}`" if name in given else _default(field)
        what = f"{_sentence(own.get(name) or comments.get(name, ''))}<br>*{_range(field)}*"
        rows.append([f"`{name}`<br>{default}", what])
    return "\n\n".join([table(_HEAD, rows), *parts])


def _of_group(name: str, group: type[BaseModel]) -> Iterator[str]:
    yield f"## `{name}` {{ #{name.replace('.', '-')} }}"
    yield inspect.cleandoc(group.__doc__ or "").replace(f" (`{name}`)", "")
    said = {**_outcomes(), **_comments(name), **attribute_docstrings(group)}
    rows, nested = [], []
    for key, field in group.model_fields.items():
        inner = _group(field.annotation)
        if inner is not None:
            nested.append((f"{name}.{key}", inner))
            continue
        what = f"{_sentence(said.get(key, ''))}<br>*{_range(field)}*"
        rows.append([f"`{key}`<br>{_default(field)}", what])
    if rows:
        yield table(_HEAD, rows)
    for inner_name, inner in nested:
        yield from _of_group(inner_name, inner)


def _group(annotation: Any) -> type[BaseModel] | None:
    """Return the group of parameters that an annotation names, if it does."""
    kinds = [kind for kind in (get_args(annotation) or (annotation,)) if kind is not NoneType]
    is_group = len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], BaseModel)
    return kinds[0] if is_group else None


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return ""
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}`"


def _range(field: Any) -> str:
    return _values(field.annotation, [_bound(one) for one in field.metadata])


def _values(annotation: Any, bounds: list[str]) -> str:
    """Return in words what values an annotation allows."""
    if get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        inner = [_bound(bound) for one in more for bound in getattr(one, "metadata", [one])]
        return _values(annotation, [*bounds, *inner])
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"list of: {_values(get_args(annotation)[0], bounds)}"
    kinds = get_args(annotation)
    if kinds:
        empty = ", or `null`" if NoneType in kinds else ""
        return " or ".join(_values(one, bounds) for one in kinds if one is not NoneType) + empty
    names = {int: "integer", float: "number", bool: "`true` or `false`", str: "text"}
    return ", ".join([names[annotation], *filter(None, bounds)])


def _bound(constraint: Any) -> str:
    for name, sign in _SIGNS.items():
        if (value := getattr(constraint, name, None)) is not None:
            return f"{sign} {value:,}" if isinstance(value, int) else f"{sign} {value:g}"
    return ""


@cache
def attribute_docstrings(kind: type) -> dict[str, str]:
    """Return what the string below each field of a model, or member of an enumeration, says."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(definition, ast.ClassDef)  # noqa: S101 - it is the source of a class
    found = {}
    for field, after in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.Assign):
            targets = field.targets
        elif isinstance(field, ast.AnnAssign):
            targets = [field.target]
        else:
            continue
        text = after.value if isinstance(after, ast.Expr) else None
        if isinstance(text, ast.Constant) and isinstance(targets[0], ast.Name):
            found[targets[0].id] = " ".join(str(text.value).split())
    return found


@cache
def _comments(group: str) -> dict[str, str]:
    """Return the comments next to the keys of a group in `conf/base/parameters*.yml`.

    Of the group without a name they are those next to the keys at the top.
    """
    top, *_ = group.split(".")
    found, inside = {}, False
    for path in sorted(BASE.glob("parameters*.yml")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"(\w+):", line):
                inside = match[1] == top or not top
            if inside and (match := re.match(r"\s*(\w+):.*?\s# (.*)", line)):
                found[match[1]] = match[2]
    return found


def _sentence(words: str) -> str:
    """Return words of a comment or docstring as a sentence about YAML."""
    words = re.sub(r"(?<!`)\b(None|null)\b", "`null`", words)
    return (words[:1].upper() + words[1:]).rstrip(".") + "." if words else ""


def catalog() -> str:
    """Return a section for each layer, with a row for each entry of the catalog."""
    loader = OmegaConfigLoader(str(ROOT / "conf"), base_env="base", default_run_env="base")
    entries, said = loader["catalog"], _catalog_comments()
    makers, readers = _nodes_by("outputs"), _nodes_by("inputs")
    rows: dict[str | None, list[list[str]]] = {layer: [] for layer in _LAYERS}
    for name in said:  # in the order of the files
        entry = entries[name]
        made, read = (_matching(name, nodes) for nodes in (makers, readers))
        where = entry.get("filepath") or entry.get("path")
        place = f"`{where}`" if where else "Computed, not stored"
        what = said[name] or " ".join(sorted({_first_sentence(node.func) for node in made}))
        what = what or _first_sentence(load_obj(entry["type"]))
        nodes = [
            f"{verb} {_listed(node.name for node in found)}."
            for verb, found in (("Made by", made), ("Read by", read))
            if found
        ]
        layer = (entry.get("metadata") or {}).get("kedro-viz", {}).get("layer")
        rows[layer].append(
            [
                f"`{name}`<br>`{entry['type'].rpartition('.')[2]}`",
                "<br>".join(filter(None, [place, what, " ".join(nodes)])),
            ]
        )
    head = ["Entry and type", "Where it is, what it is, and which nodes make and read it"]
    parts = [
        f"## {_LAYERS[layer]}\n\n{table(head, found)}" for layer, found in rows.items() if found
    ]
    return "\n\n".join(parts)


def _matching(name: str, nodes: dict[str, set[Node]]) -> set[Node]:
    """Return the nodes of an entry, which may be a pattern such as `archive_{split}_images`."""
    pattern = re.compile(re.sub(r"\\{\w+\\}", r"\\w+", re.escape(name)))
    return set().union(*(found for key, found in nodes.items() if pattern.fullmatch(key)))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(set(names)))


def _nodes_by(side: Literal["inputs", "outputs"]) -> dict[str, set[Node]]:
    """Return the nodes that read, or make, each entry."""
    found: dict[str, set[Node]] = {}
    for node in (node for pipeline in pipelines().values() for node in pipeline.nodes):
        for name in getattr(node, side):
            found.setdefault(name, set()).add(node)
    return found


def _catalog_comments() -> dict[str, str]:
    """Return the comment above each entry in `conf/base/catalog_*.yml`."""
    found = {}
    for path in sorted(BASE.glob("catalog*.yml")):
        comment: list[str] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("# "):
                comment.append(line.removeprefix("# "))
            elif match := re.match(r"\"?([\w{}]+)\"?:", line):
                if match[1].startswith("_"):  # a template of others
                    comment = []
                    continue
                words = " ".join(comment)
                found[match[1]] = "" if words.startswith(_OF_THE_FILE) else words
                comment = []
            elif not line.startswith(" "):
                comment = []
    return found


def nodes() -> str:
    """Return a section for each registered pipeline, with its nodes."""
    parts = []
    for name, pipeline in sorted(pipelines().items()):
        command = "kedro run" if name == "__default__" else f"kedro run --pipelines {name}"
        parts.append(f"### `{name}` {{ #{name.strip('_')} }}")
        parts.append(f"`{command}`, {len(pipeline.nodes)} nodes:")
        rows = []
        for node in pipeline.nodes:
            sides = [
                f"{verb} {_data(names)}."
                for verb, names in (("Reads", node.inputs), ("Makes", node.outputs))
                if _data(names)
            ]
            what = "<br>".join([_first_sentence(node.func), *sides])
            rows.append([f"`{node.name}`", what])
        parts.append(table(["Node", "What it does, reads and makes"], rows))
    return "\n\n".join(parts)


def _data(names: list[str]) -> str:
    return _listed(name for name in names if not name.startswith("params:"))


def _first_sentence(function: Callable[..., Any]) -> str:
    documented = inspect.unwrap(getattr(function, "func", function))
    words = inspect.cleandoc(documented.__doc__ or "").split("\n\n")[0]
    return _sentence(" ".join(words.split()).removeprefix("Return "))


def _outcomes() -> dict[str, str]:
    words = attribute_docstrings(Outcome)
    return {outcome.value: words[outcome.name] for outcome in Outcome}


def exit_codes() -> str:
    """Return a table of the outcomes of the jobs with their exit codes."""
    said = _outcomes()
    rows = [[f"`{each}`", str(each.exit_code), said[each]] for each in Outcome]
    return table(["Outcome", "Exit code", "What happened"], rows)


def figures() -> str:
    """Return a table of what the jobs write for Prometheus."""
    rows = [[f"`{name}`", words] for name, words in HELP.items()]
    return table(["Figure", "What it is"], rows)


GENERATED: dict[str, Callable[[], str]] = {
    "parameters": parameters,
    "catalog": catalog,
    "nodes": nodes,
    "exit codes": exit_codes,
    "figures": figures,
}
"""What a fence ```` ```generated ```` may name."""


def rooms() -> list[str]:
    """Return the rooms of the package that have a page of the API."""
    packages = [path.parent.name for path in SOURCE.glob("*/__init__.py")]
    return ["mnist_vae", *sorted(packages)]


def api_pages() -> dict[str, str]:
    """Return the page of each room: its modules, which mkdocstrings reads without an import."""
    return {room: "\n\n".join(_api_page(room)) + "\n" for room in rooms()}


def _api_page(room: str) -> Iterator[str]:
    if room == SOURCE.name:
        yield "# mnist_vae"
        paths = sorted(SOURCE.glob("[a-z]*.py"))
    else:
        yield f"# mnist_vae.{room}"
        paths = [path for path in sorted((SOURCE / room).rglob("*.py")) if _has_code(path)]
    for path in paths:
        module = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
        yield f"::: {module.removesuffix('.__init__')}"


def _has_code(path: Path) -> bool:
    """Return whether mkdocstrings finds a module, and it has more than what it imports.

    It looks in no folder without `__init__.py`: nodes are on the page of the pipelines.
    """
    if not path.with_name("__init__.py").exists():
        return False
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(part, ast.FunctionDef | ast.ClassDef) for part in body)
