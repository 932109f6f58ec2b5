"""What the Plotly figures have in common."""

from __future__ import annotations

import textwrap
from typing import Any

# Plotly does not wrap, and the side panel of Kedro-Viz is 400 pixels wide.
_TITLE_LENGTH = 56
_STATEMENT_LENGTH = 66
_LINE_SHARE = 0.075  # a line of the statement takes of the height between the margins
_GREY = "rgb(128, 128, 128)"
_FAINT = "rgba(128, 128, 128, 0.25)"  # seen on white and on black


def entitle(figure: Any, title: str, said: str, *, height: int = 640, top: int = 64) -> None:
    """Give `figure` its title, and between title and axes the statement of the model.

    Kedro-Viz lays its theme over the layout: margins, the place of the title, and the colours of
    the first axes. So nothing here depends on these: the title stands in the middle of the margin,
    the statement is an annotation for which the axes make room, and the lines of all axes are
    seen on light and on dark.

    Args:
        figure: A `plotly.graph_objects.Figure`, with all its axes and annotations.
        title: The first line.
        said: The statement.
        height: Of the whole figure, in pixels.
        top: Of the margin above it, in pixels.
    """
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"t": top, "b": 60},
        title={
            "text": "<br>".join(textwrap.wrap(title, _TITLE_LENGTH)),
            "font": {"size": 16},
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "yref": "paper",
            "yanchor": "middle",
        },
    )
    figure.update_xaxes(gridcolor=_FAINT, zerolinecolor=_FAINT, linecolor=_FAINT)
    figure.update_yaxes(gridcolor=_FAINT, zerolinecolor=_FAINT, linecolor=_FAINT)
    lines = textwrap.wrap(said, _STATEMENT_LENGTH)
    rest = 1 - _LINE_SHARE * len(lines)
    figure.for_each_yaxis(
        lambda axis: axis.update(domain=[rest * end for end in axis.domain or (0, 1)])
    )
    figure.for_each_annotation(
        lambda annotation: annotation.update(y=rest * annotation.y), selector={"yref": "paper"}
    )
    figure.add_annotation(
        text="<br>".join(lines),
        font={"size": 10, "color": _GREY},
        align="left",
        showarrow=False,
        x=0,
        xref="paper",
        xanchor="left",
        y=1,
        yref="paper",
        yanchor="top",
    )
