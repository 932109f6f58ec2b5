"""What the Plotly figures have in common."""

from __future__ import annotations

import textwrap
from typing import Any

_LINE_LENGTH = 110  # of the statement, in characters; Plotly does not wrap


def entitle(figure: Any, title: str, said: str, *, height: int = 640, top: int = 90) -> None:
    """Give `figure` its title, with the statement of the model under it.

    Args:
        figure: A `plotly.graph_objects.Figure`.
        title: The first line.
        said: The statement.
        height: Of the whole figure, in pixels.
        top: Of the margin above it, in pixels, without the lines of the statement.
    """
    lines = textwrap.wrap(said, _LINE_LENGTH)
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"t": top + 16 * len(lines), "b": 60},
        title={
            "text": title,
            "subtitle": {"text": "<br>".join(lines)},
            "y": 0.96,
            "yanchor": "top",
        },
    )
