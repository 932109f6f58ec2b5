"""Equations: TeX in the page's source, MathML in the site."""

from __future__ import annotations

from typing import Any

from latex2mathml.converter import convert


def fence(source: str, *_: Any, **__: Any) -> str:
    """Return the MathML of a fence; superfences asks for it.

    A wide one scrolls on a phone, and so takes the focus of a keyboard.
    """
    source = source.replace(r"\log ", r"\log\, ")  # MathML has no space after a function's name
    return f'<div class="equation" tabindex="0">{convert(source.strip(), display="block")}</div>'
