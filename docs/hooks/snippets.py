"""Lines of the source, for pages that explain them."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def fence(name: str) -> str:
    """Return the fenced lines of a function or class without its docstring.

    Args:
        name: Dotted, such as `mnist_vae.vae.losses.kl_divergence`, or of a method.

    Raises:
        LookupError: There is none of this name.
    """
    path, definition, lines = _find(name)
    docstring = definition.body[0]
    skipped = range(0)
    if isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant):
        skipped = range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1)
    end = definition.end_lineno or definition.lineno
    shown = [
        lines[number - 1] for number in range(definition.lineno, end + 1) if number not in skipped
    ]
    indent = len(shown[0]) - len(shown[0].lstrip())
    code = "\n".join(line[indent:] for line in shown)
    where = path.relative_to(ROOT)
    return f'```python title="{where}, line {definition.lineno}"\n{code}\n```'


def _find(name: str) -> tuple[Path, ast.FunctionDef | ast.ClassDef, list[str]]:
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        path = ROOT.joinpath("src", *parts[:length]).with_suffix(".py")
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            found: ast.AST = ast.parse(text)
            for part in parts[length:]:
                found = _member(found, part, name)
            assert isinstance(found, ast.FunctionDef | ast.ClassDef)  # noqa: S101 - `_member`
            return path, found, text.splitlines()
    raise LookupError(f"there is no module of {name}")


def _member(parent: ast.AST, member: str, name: str) -> ast.AST:
    for child in getattr(parent, "body", ()):
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and child.name == member:
            return child
    raise LookupError(f"there is no {name}")
