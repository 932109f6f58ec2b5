"""The table of what was obtained, with what is known from elsewhere."""

import pandas as pd
import pytest

from mnist_vae.params import EvaluationParams
from mnist_vae.pipelines.evaluation.findings import describe_evaluation
from mnist_vae.pipelines.evaluation.nodes import evaluate_vae, measure_label_accuracy
from mnist_vae.report.evaluation import REFERENCES, with_error

QUICK = EvaluationParams()


@pytest.fixture
def reports(small_model):
    """The two reports of a quick evaluation, and the summary."""
    return (
        evaluate_vae(*small_model, QUICK, 1),
        measure_label_accuracy(*small_model, QUICK, 1),
        small_model[-1],
    )


def tabulate(*reports):
    table, _ = describe_evaluation(*reports)
    return table


def part(**others):
    figures = ("refined_negative_elbo", "negative_log_likelihood", "amortisation", "approximation")
    return {
        "negative_elbo": 104.0,
        "negative_elbo_standard_error": 0.5,
        "likelihood": "exact",
        "n_images": 12,
        "quadrature_error": 0.001,
        "worst_tenth": 0.5,
        "misplaced": 0.1,
        **{name: 100.0 - place for place, name in enumerate(figures)},
        **{f"{name}_standard_error": 0.5 for name in figures},
        **others,
    }


def thorough(metrics):
    """The metrics as a thorough evaluation would give them."""
    splits = {
        name: {**split, "decomposition": part(), "binarized": part() if name == "test" else None}
        for name, split in metrics["splits"].items()
    }
    return {**metrics, "splits": splits, "skipped": None}


def test_what_was_not_measured_has_no_row(reports):
    table = tabulate(*reports)
    figures = set(table["figure"])
    assert {"−ELBO", "−ELBO above the floor", "rate (KL)", "15-NN accuracy of z, amortised"} <= (
        figures
    )
    assert not any("refined" in figure for figure in figures)
    assert set(table["model_version"]) == {reports[-1]["model_version"]}
    assert table["figure"].is_unique


def test_a_thorough_evaluation_has_them(reports):
    metrics, accuracy, summary = reports
    accuracy = {**accuracy, "refined": {"value": 0.9, "standard_error": 0.01}}
    table = tabulate(thorough(metrics), accuracy, summary).set_index("figure")
    assert table.loc["−log p(x)", "obtained"] == 99.0
    assert table.loc["−log p(x), binarised", "standard_error"] == 0.5
    assert table.loc["15-NN accuracy of z, refined", "obtained"] == 0.9


def test_a_bound_is_called_one_and_has_the_same_reference(reports):
    metrics, *others = reports
    metrics = thorough(metrics) | {"data": "Data: MNIST, all of it, checksums verified."}
    bound = part(likelihood="importance-weighted bound, 100 draws", quadrature_error=None)
    metrics["splits"]["test"] |= {"decomposition": bound, "binarized": bound}
    table = tabulate(metrics, *others).set_index("figure")
    assert "−log p(x), importance-weighted bound, 100 draws" in table.index
    assert "approximation gap, at least" in table.index, "as −log p(x) is below its bound"
    binarised = table.loc["−log p(x), binarised, importance-weighted bound, 100 draws"]
    assert (binarised["reference"], binarised["source"]) == REFERENCES["−log p(x), binarised"]
    assert "error of the quadrature" not in table.index


def test_published_figures_are_compared_with_those_of_mnist_alone(reports):
    metrics, *others = reports
    of_the_sample = tabulate(*reports)
    assert of_the_sample["reference"].isna().all()
    statement = "Data: MNIST, 60,000 training and 10,000 test images, checksums verified."
    of_mnist = tabulate({**metrics, "data": statement}, *others).set_index("figure")
    assert of_mnist.loc["entropy floor", "reference"] == 45.534
    assert pd.isna(of_mnist.loc["−ELBO", "source"])
    for other in ("Data: Fashion-MNIST, 1 image, checksums verified.", statement[:-9] + "..."):
        assert tabulate({**metrics, "data": other}, *others)["reference"].isna().all()


@pytest.mark.parametrize("stranger", ["metrics", "accuracy"])
def test_figures_of_another_model_are_refused(reports, stranger):
    metrics, accuracy, summary = reports
    other = {"model_version": "another"}
    if stranger == "metrics":
        metrics = metrics | other
    else:
        accuracy = accuracy | other
    with pytest.raises(ValueError, match=r"not of the model in use: .* another"):
        describe_evaluation(metrics, accuracy, summary)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (158.2377, 2.144, "158.2 ± 2.1"),
        (154.5312, 2.0, "154.5 ± 2.0"),
        (0.08694, 0.01794, "0.087 ± 0.018"),
        (-0.31649, 0.2259, "−0.32 ± 0.23"),
        (1234.5, 51.0, "1234 ± 51"),
        (5.50569, None, "5.51"),
        (2.0, float("nan"), "2"),
        (0.0087031, None, "0.0087"),
        (1.0, 0.0, "1"),
        (0.0, None, "0"),
    ],
)
def test_a_figure_has_no_more_digits_than_its_standard_error_tells(value, error, text):
    assert with_error(value, error) == text
