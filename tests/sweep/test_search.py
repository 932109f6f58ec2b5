"""A search by Optuna: seeded, and resumed to the same trials."""

import pytest

optuna = pytest.importorskip("optuna", reason="the extra `optuna` is not installed")

from mnist_vae.sweep.grid import axis_of  # noqa: E402
from mnist_vae.sweep.records import SweepError  # noqa: E402
from mnist_vae.sweep.search import Search, corners  # noqa: E402

AXES = [
    axis_of("training.learning_rate=1e-4..1e-2:log"),
    axis_of("model.latent_dim=2..20"),
    axis_of("model.hidden_units=[16],[32, 16]"),
]


def loss_of(setting):
    values = setting.values
    return abs(values["training.learning_rate"] - 3e-3) * 1000 + values["model.latent_dim"]


def score(settings):
    return [loss_of(setting) for setting in settings]


def search(folder, seed=1, axes=AXES):
    return Search(folder, axes, seed)


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_the_same_seed_has_the_same_trials(tmp_path, at_a_time):
    found = [search(tmp_path / name).run(14, at_a_time, score) for name in ("a", "b")]
    assert found[0] == found[1]
    assert len({setting.name for setting in found[0]}) == 14
    assert search(tmp_path / "c", seed=2).run(14, at_a_time, score) != found[0]


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_an_interrupted_search_ends_with_the_trials_of_one_that_was_not(tmp_path, at_a_time):
    whole = search(tmp_path / "whole").run(14, at_a_time, score)
    asked = []

    def dies_later(settings):
        asked.append(len(settings))
        if sum(asked) > 7:
            raise KeyboardInterrupt
        return score(settings)

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "broken").run(14, at_a_time, dies_later)
    scored = []

    def counted(settings):
        scored.extend(settings)
        return score(settings)

    assert search(tmp_path / "broken").run(14, at_a_time, counted) == whole
    assert len(scored) == 14 - (sum(asked) - asked[-1])  # none that had been told is scored again


def test_more_trials_can_be_asked_for_later(tmp_path):
    six = search(tmp_path).run(6, 1, score)
    ten = search(tmp_path).run(10, 1, score)
    assert ten[:6] == six
    assert search(tmp_path).run(4, 1, score) == six[:4]


def test_values_are_in_their_ranges_and_lists_stay_lists(tmp_path):
    for setting in search(tmp_path).run(12, 4, score):
        assert 1e-4 <= setting.values["training.learning_rate"] <= 1e-2
        assert setting.values["model.latent_dim"] in range(2, 21)
        assert setting.values["model.hidden_units"] in ([16], [32, 16])


def test_it_searches_where_the_loss_is_low(tmp_path):
    losses = [loss_of(setting) for setting in search(tmp_path).run(40, 1, score)]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_a_trial_that_fails_does_not_end_the_search(tmp_path):
    settings = search(tmp_path).run(6, 2, lambda settings: [None, *score(settings[1:])])
    assert len(settings) == 6


def test_another_search_in_the_folder_is_refused(tmp_path):
    search(tmp_path).run(2, 1, score)
    with pytest.raises(SweepError, match="has another search"):
        search(tmp_path, seed=5)
    with pytest.raises(SweepError, match="has another search"):
        search(tmp_path, axes=AXES[:1])


def test_the_ends_of_the_ranges_are_what_is_checked_first():
    assert corners(AXES[1:]) == [
        {"model.latent_dim": 2},
        {"model.latent_dim": 20},
        {"model.hidden_units": [16]},
        {"model.hidden_units": [32, 16]},
    ]
