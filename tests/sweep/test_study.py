"""Grids and searches: what `--over` says, which trials there are, and how they resume."""

from concurrent.futures import Future

import click
import pytest

optuna = pytest.importorskip("optuna", reason="the extra `sweep` is not installed")

from optuna.distributions import (  # noqa: E402
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mnist_vae.sweep.study import grid_of, plot, run_study, space_of  # noqa: E402
from mnist_vae.sweep.table import LOSS  # noqa: E402

RANGE = ["training.learning_rate=1e-4..1e-2:log"]


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("model.latent_dim=2,10", CategoricalDistribution(["2", "10"])),
        ("training.learning_rate=1e-3, 0.01", CategoricalDistribution(["0.001", "0.01"])),
        ("model.hidden_units=[512,256],[64]", CategoricalDistribution(["[512, 256]", "[64]"])),
        ("model.activation=relu,tanh", CategoricalDistribution(["relu", "tanh"])),
        ("training.jit_compile=null,true", CategoricalDistribution(["null", "true"])),
        ("model.latent_dim=2..20", IntDistribution(2, 20)),
        ("training.beta_2=0.9..0.999", FloatDistribution(0.9, 0.999)),
        ("training.learning_rate=1e-4..1e-2:log", FloatDistribution(1e-4, 1e-2, log=True)),
    ],
)
def test_values_are_as_yaml_has_them_and_ranges_are_optunas(text, distribution):
    name = text.partition("=")[0]
    assert space_of([text], search=True) == {name: distribution}


@pytest.mark.parametrize(
    "texts",
    [
        ["model.latent_dim"],
        ["model.latent_dim="],
        ["model.latent_dim=2", "model.latent_dim=3"],
        ["model.hidden_units=[512"],
        ["training.beta_2=0.9..0.1"],
        ["training.beta_2=0.0..0.1:log"],
        ["training.beta_2=a..b"],
        ["seed=1,2"],
        ["data_folder=a,b"],
        ["split.max_images=100,200"],
        ["source.folder=a,b"],
        ["model.reconstruction=mse,binary_crossentropy"],
    ],
)
def test_what_is_neither_or_changes_what_is_measured_is_refused(texts):
    with pytest.raises(click.BadParameter, match=r"expected .* received .*; correct --over"):
        space_of(texts, search=True)


def test_a_range_is_for_a_search_alone():
    with pytest.raises(click.BadParameter, match="with --search NAME=LOW"):
        space_of(RANGE, search=False)


def test_a_grid_has_all_combinations():
    space = space_of(["a=1,2", "b=x,y"], search=False)
    assert grid_of(space) == [
        {"a": "1", "b": "x"},
        {"a": "1", "b": "y"},
        {"a": "2", "b": "x"},
        {"a": "2", "b": "y"},
    ]
    assert grid_of({}) == [{}]


class Starts:
    """Starts the members of settings, which end at once; remembers the settings.

    Args:
        broken: The number of the setting whose member fails, or that is interrupted.
        error: Raised there; a failure, if there is none.
    """

    def __init__(self, broken=None, error=None):
        self.settings, self.broken, self.error = [], broken, error

    def __call__(self, setting):
        self.settings.append(setting)
        future = Future()
        if len(self.settings) - 1 != self.broken:
            future.set_result({LOSS: 140 + len(str(setting))})
        elif self.error:
            future.set_exception(self.error)
        else:
            future.set_result({"failure": "The disk is full."})
        return [future]


def opened(path):
    return optuna.create_study(storage=f"sqlite:///{path}", study_name="s", load_if_exists=True)


def test_a_grid_is_in_the_study_once_and_its_failed_settings_are_told_later(tmp_path):
    space = space_of(["a=1,2", "b=x,y"], search=False)
    study = opened(tmp_path / "study.db")
    run_study(study, space, Starts(broken=1), None, 2)
    assert [trial.state.name for trial in study.trials].count("COMPLETE") == 3
    again = Starts()
    run_study(opened(tmp_path / "study.db"), space, again, None, 2)
    assert again.settings == grid_of(space)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4


def test_an_interrupted_search_resumes_with_the_trials_that_it_would_have_had(tmp_path):
    space = space_of(RANGE, search=True)
    whole = Starts()
    run_study(opened(tmp_path / "whole.db"), space, whole, 6, 2)
    first, second = Starts(broken=3, error=KeyboardInterrupt()), Starts()
    with pytest.raises(KeyboardInterrupt):
        run_study(opened(tmp_path / "study.db"), space, first, 6, 2)
    study = opened(tmp_path / "study.db")
    run_study(study, space, second, 6, 2)
    assert second.settings == whole.settings
    assert len(study.trials) == 6
    assert all(trial.state.is_finished() for trial in study.trials)
    rates = [float(setting["training.learning_rate"]) for setting in whole.settings]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert len(set(rates)) == 6


def test_the_plots_are_optunas_and_need_no_network(tmp_path):
    space = space_of(["a=1,2"], search=False)
    study = optuna.create_study()
    run_study(study, space, Starts(), None, 1)
    plot(study, tmp_path / "plots.html")
    page = (tmp_path / "plots.html").read_text(encoding="utf-8")
    assert page.count('class="plotly-graph-div"') == 3
    assert "<script src=" not in page
