"""Rate and distortion of the settings of a sweep: which are worth a choice, and their figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from mnist_vae.figures import entitle

_FRONT, _OTHER, _RUN = "#0072b2", "#888888", "#bbbbbb"
_LINES = 6  # of equal −ELBO


def on_front(points: Sequence[tuple[float, float] | None]) -> list[bool]:
    """Return of each point whether no other one is as low in both coordinates, and lower in one.

    None is no point, and is on no front.
    """

    def beaten(point: tuple[float, float]) -> bool:
        return any(
            other is not None and other != point and other[0] <= point[0] and other[1] <= point[1]
            for other in points
        )

    return [point is not None and not beaten(point) for point in points]


def draw_front(table: pd.DataFrame, runs: pd.DataFrame, said: str) -> Any:
    """Return the figure of rate and distortion on the validation images, nats an image.

    Args:
        table: That of `table.tabulate`.
        runs: That of `table.runs_table`.
        said: What is under the title.

    Returns:
        A `plotly.graph_objects.Figure`: a point for each setting with its standard errors, each
        run as a dot, the front, and lines along which −ELBO = rate + distortion is the same.
    """
    import plotly.graph_objects as go

    shown = table[(table["seeds"] > 0) & (table["difference"].notna() | (table.index == 0))]
    done = runs[(runs["state"] == "done") & runs["setting"].isin(shown["setting"])]
    figure = go.Figure()
    _draw_equal_losses(figure, done)
    figure.add_trace(
        go.Scatter(
            x=done["validation_kl"],
            y=done["validation_reconstruction"],
            mode="markers",
            marker={"color": _RUN, "size": 6},
            name="a run",
            text=[f"{row.setting}, seed {row.seed}" for row in done.itertuples()],
            hovertemplate="%{text}<br>rate %{x:.2f}, distortion %{y:.2f}<extra></extra>",
        )
    )
    front = shown[shown["pareto"]].sort_values("validation_kl")
    line = {"color": _FRONT, "width": 2, "shape": "hv"}
    _draw_settings(figure, shown[~shown["pareto"]], "a setting", _OTHER, mode="markers+text")
    _draw_settings(figure, front, "on the front", _FRONT, mode="lines+markers+text", line=line)
    figure.update_xaxes(title_text="rate: KL, nats an image")
    figure.update_yaxes(title_text="distortion: reconstruction, nats an image")
    figure.update_layout(legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0})
    entitle(figure, "Rate and distortion on the validation images", said, height=820, top=120)
    figure.update_layout(margin={"r": 170})
    return figure


def _draw_settings(
    figure: Any, rows: pd.DataFrame, name: str, colour: str, mode: str, **line: Any
) -> None:
    import plotly.graph_objects as go

    def errors(term: str) -> dict[str, Any]:
        values = rows[f"validation_{term}_standard_error"].astype(float).fillna(0)
        return {"array": values, "thickness": 1.5, "width": 4}

    figure.add_trace(
        go.Scatter(
            x=rows["validation_kl"],
            y=rows["validation_reconstruction"],
            error_x=errors("kl"),
            error_y=errors("reconstruction"),
            mode=mode,
            marker={"color": colour, "size": 11},
            text=rows["setting"],
            textposition="top right",
            cliponaxis=False,  # a name may be longer than the axis
            customdata=rows["validation_negative_elbo"],
            hovertemplate="%{text}<br>rate %{x:.2f}, distortion %{y:.2f}, "
            "−ELBO %{customdata:.2f}<extra></extra>",
            name=name,
            **line,
        )
    )


def _draw_equal_losses(figure: Any, done: pd.DataFrame) -> None:
    """Draw lines of equal −ELBO, behind what was measured."""
    import numpy as np
    import plotly.graph_objects as go

    if done.empty:
        return
    rate, distortion = done["validation_kl"], done["validation_reconstruction"]
    left, right = rate.min(), rate.max()
    margin = max(right - left, 1.0) * 0.15
    span = max(distortion.max() - distortion.min(), 1.0) * 0.15
    low, high = distortion.min() - span, distortion.max() + span
    ends = np.array([left - margin, right + margin])
    totals = np.linspace(ends[0] + low, ends[1] + high, _LINES + 2)[1:-1]
    for total in totals:
        figure.add_trace(
            go.Scatter(
                x=ends,
                y=total - ends,
                mode="lines",
                line={"color": "#c8c8c8", "width": 1, "dash": "dot"},
                name=f"equal −ELBO, every {totals[1] - totals[0]:.2g} nats",
                legendgroup="equal",
                showlegend=bool(total == totals[0]),
                hoverinfo="skip",
            )
        )
    figure.update_xaxes(range=[float(end) for end in ends])
    figure.update_yaxes(range=[float(low), float(high)])
