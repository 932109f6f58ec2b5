"""The front of rate and distortion, and its figure."""

import pytest

from mnist_vae.sweep.grid import named
from mnist_vae.sweep.pareto import draw_front, on_front
from mnist_vae.sweep.table import runs_table, tabulate


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(7, 130), (6, 131), (8, 129)], [True, True, True]),
        ([(7, 130), (7, 131), (8, 130)], [True, False, False]),
        ([(7, 130), (6, 129)], [False, True]),
        ([(7, 130), (7, 130)], [True, True]),  # equal ones do not beat each other
        ([(7, 130), None, (9, 140)], [True, False, False]),
        ([], []),
    ],
)
def test_on_the_front_is_what_no_other_point_beats(points, expected):
    assert on_front(points) == expected


def test_the_figure_has_the_settings_the_runs_and_what_is_said(result):
    settings = named([{}, {"training.kl_weight": 4.0}, {"training.kl_weight": 0.5}])
    results = [
        result(setting.name, seed, elbo + seed / 10, kl=kl)
        for setting, elbo, kl in zip(settings, (140.0, 145.0, 150.0), (7.0, 4.0, 9.0), strict=True)
        for seed in (1, 2)
    ]
    figure = draw_front(tabulate(settings, results), runs_table(results), "What it is of.")
    traces = {trace.name: trace for trace in figure.data}
    assert list(traces["on the front"].text) == ["kl_weight=4.0", "default"]
    assert list(traces["a setting"].text) == ["kl_weight=0.5"]
    assert len(traces["a run"].x) == 6
    assert figure.layout.annotations[-1].text == "What it is of."


def test_without_any_result_there_is_still_a_figure(result):
    results = [result("default", 1)]
    figure = draw_front(tabulate(named([{}]), results), runs_table(results), "Nothing.")
    assert figure.layout.annotations[-1].text == "Nothing."
