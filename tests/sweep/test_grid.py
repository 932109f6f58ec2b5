"""What is asked for on the command line, and what is refused."""

import pytest

from mnist_vae.sweep.grid import (
    Choices,
    Range,
    axis_of,
    flat,
    nested,
    seeds_of,
    settings_of,
    variant_of,
)
from mnist_vae.sweep.records import SweepError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("model.latent_dim=2,10", (2, 10)),
        ("training.learning_rate=1e-3, 0.01", (0.001, 0.01)),
        ("training.resample_input=true,false", (True, False)),
        ("training.early_stopping_patience=null,20", (None, 20)),
        ("model.hidden_units=[512,256],[64]", ([512, 256], [64])),
        ("model.activation=relu,tanh", ("relu", "tanh")),
        ("source.folder=../images,/mnt/images", ("../images", "/mnt/images")),
    ],
)
def test_values_are_as_yaml_has_them(text, values):
    assert axis_of(text) == Choices(text.partition("=")[0], values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "training.learning_rate=1e-4..1e-2:log",
            Range("training.learning_rate", 1e-4, 1e-2, True),
        ),
        ("training.beta_2=0.9..0.999", Range("training.beta_2", 0.9, 0.999, False)),
        ("model.latent_dim=2..20", Range("model.latent_dim", 2, 20, False)),
    ],
)
def test_two_numbers_with_dots_between_them_are_a_range(text, expected):
    assert axis_of(text) == expected


@pytest.mark.parametrize(
    ("text", "what_to_do"),
    [
        ("model.latent_dim", "correct --over or --variant"),
        ("model.latent_dim=", "correct --over or --variant"),
        ("=2", "correct --over or --variant"),
        ("model..x=2", "correct --over or --variant"),
        ("model.hidden_units=[512", "write for instance"),
        ("model.latent_dim=2,2", "leave one out"),
        ("training.learning_rate=1e-2..1e-4", "such as 1e-4..1e-2:log"),
        ("training.kl_weight=0..4:log", "above 0 with :log"),
        ("seed=1,2", "--seeds has the seeds"),
        ("data_folder=a,b", "each run of a sweep has its own"),
    ],
)
def test_what_is_no_axis_is_refused_in_a_sentence(text, what_to_do):
    with pytest.raises(SweepError, match="received") as caught:
        axis_of(text)
    assert what_to_do in str(caught.value)


def test_a_grid_has_every_combination_in_the_order_of_the_command():
    axes = [axis_of("model.latent_dim=2,10"), axis_of("training.epochs=1,2")]
    settings = settings_of(axes, [])
    assert [setting.name for setting in settings] == [
        "latent_dim=2, epochs=1",
        "latent_dim=2, epochs=2",
        "latent_dim=10, epochs=1",
        "latent_dim=10, epochs=2",
    ]
    assert settings[2].values == {"model.latent_dim": 10, "training.epochs": 1}


def test_variants_stand_beside_the_default():
    settings = settings_of([], [variant_of("training.kl_weight=4,model.hidden_units=[16,8]")])
    assert [setting.name for setting in settings] == [
        "default",
        "kl_weight=4, hidden_units=[16, 8]",
    ]
    assert settings[1].values == {"training.kl_weight": 4, "model.hidden_units": [16, 8]}


def test_a_sweep_over_nothing_is_the_default_alone():
    assert [setting.name for setting in settings_of([], [])] == ["default"]


def test_keys_of_one_name_keep_their_groups():
    axes = [axis_of("training.refine_steps=0"), axis_of("evaluation.refine_steps=3")]
    (setting,) = settings_of(axes, [])
    assert setting.name == "training.refine_steps=0, evaluation.refine_steps=3"


@pytest.mark.parametrize(
    ("axes", "variants", "message"),
    [
        (["model.latent_dim=2..20"], [], "add --search N"),
        (["model.latent_dim=2", "model.latent_dim=3"], [], "is there twice"),
        (["model.latent_dim=2,3"], ["model.latent_dim=3"], "A setting is there twice"),
    ],
)
def test_settings_that_are_no_comparison_are_refused(axes, variants, message):
    with pytest.raises(SweepError, match=message):
        settings_of([axis_of(text) for text in axes], [variant_of(text) for text in variants])


def test_several_values_of_one_parameter_are_no_variant():
    with pytest.raises(SweepError, match="use --over for several values"):
        variant_of("model.latent_dim=2,3")


def test_seeds_are_whole_numbers_each_once():
    assert seeds_of("42, 43") == (42, 43)
    for text in ("", "a", "1,1", "1.5", "-1"):
        with pytest.raises(SweepError, match="correct --seeds"):
            seeds_of(text)


def test_nested_parameters_and_whole_names_are_the_same():
    values = {"seed": 1, "model.latent_dim": 2, "model.activation": "relu"}
    params = {"seed": 1, "model": {"latent_dim": 2, "activation": "relu"}}
    assert nested(values) == params
    assert flat(params) == values
