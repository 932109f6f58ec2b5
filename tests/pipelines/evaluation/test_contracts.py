"""What the saved metrics and figures of the latent space must satisfy."""

import copy

import pytest

from mnist_vae.pipelines.evaluation.contracts import LatentQualityContract, MetricsContract

SPLIT = {
    "negative_elbo": 135.0,
    "reconstruction": 128.0,
    "kl": 7.0,
    "kl_per_dimension": [3.0, 4.0],
    "decomposition": None,
}
METRICS = {"splits": {"train": dict(SPLIT), "test": dict(SPLIT)}, "skipped": "It takes minutes."}
FIGURES = {
    "neighbour_accuracy": {"value": 0.9, "standard_error": 0.01},
    "probe_accuracy": None,
    "mutual_information": {"value": 6.1, "standard_error": None},
}
LATENT = {"amortised": FIGURES, "refined": None}


def changed(report, *place, to):
    report = copy.deepcopy(report)
    inner = report
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = to
    return report


def test_metrics_that_add_up_pass():
    assert MetricsContract().validate(METRICS) is METRICS


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "negative_elbo",
            float("nan"),
            r"test images do not add up: expected reconstruction \+ KL",
        ),
        ("reconstruction", float("inf"), "expected reconstruction"),
        ("negative_elbo", 140.0, "135 nats, received 140"),
        ("kl_per_dimension", [7.0, 1.0], "the sum over the dimensions, 8 nats, received 7"),
    ],
)
def test_metrics_that_do_not_are_not_saved(name, value, message):
    with pytest.raises(ValueError, match=message):
        MetricsContract().validate(changed(METRICS, "splits", "test", name, to=value))


def test_a_loss_that_is_not_taken_apart_has_a_reason():
    with pytest.raises(ValueError, match="received neither"):
        MetricsContract().validate(METRICS | {"skipped": None})


def test_figures_of_the_latent_space_pass():
    assert LatentQualityContract().validate(LATENT) is LATENT


@pytest.mark.parametrize(
    ("name", "value"),
    [("neighbour_accuracy", 1.1), ("mutual_information", float("nan"))],
)
def test_a_figure_that_is_none_is_not_saved(name, value):
    report = changed(LATENT, "amortised", name, "value", to=value)
    with pytest.raises(ValueError, match=f"wrong `{name}`, amortised"):
        LatentQualityContract().validate(report)


def test_a_standard_error_that_is_not_finite_is_not_saved():
    report = changed(LATENT, "amortised", "mutual_information", "standard_error", to=float("nan"))
    with pytest.raises(ValueError, match="± nan"):
        LatentQualityContract().validate(report)
