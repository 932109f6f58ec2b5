"""What the Plotly figures have in common."""

from __future__ import annotations

import textwrap
from typing import Any

_LINE_LENGTH = 110  # of the statement, in characters; Plotly does not wrap


def entitle(figure: Any, title: str, said: str) -> None:
    """Give `figure` its title, with the statement of the model under it."""
    lines = textwrap.wrap(said, _LINE_LENGTH)
    figure.update_layout(
        template="plotly_white",
        height=640,
        margin={"t": 90 + 16 * len(lines), "b": 60},
        title={
            "text": title,
            "subtitle": {"text": "<br>".join(lines)},
            "y": 0.96,
            "yanchor": "top",
        },
    )
