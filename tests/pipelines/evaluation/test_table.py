"""The table of what was obtained beside what is known from elsewhere."""

import pandas as pd
import pytest

from mnist_vae.params import EvaluationParams, GenerationParams
from mnist_vae.pipelines.evaluation.contracts import EvaluationTableContract
from mnist_vae.pipelines.evaluation.latent_nodes import measure_latent_space
from mnist_vae.pipelines.evaluation.nodes import evaluate_vae
from mnist_vae.pipelines.evaluation.sample_nodes import measure_samples
from mnist_vae.pipelines.evaluation.table import (
    draw_decomposition,
    tabulate,
    to_markdown,
)
from mnist_vae.report.worth import REFERENCES, with_error

QUICK = EvaluationParams()
SAMPLES = {
    "sets": [{"set": "prior", "fid": 3.0, "fid_standard_error": 0.1, "kid": 0.2}],
    "n_images": 20,
}


@pytest.fixture
def reports(small_model):
    """The three reports of a quick evaluation, and the summary."""
    encoder, decoder, *images, summary = small_model
    samples = measure_samples(encoder, decoder, {}, *images, summary, QUICK, GenerationParams(), 1)
    return (
        evaluate_vae(*small_model, QUICK, 1),
        measure_latent_space(*small_model, QUICK, 1),
        samples,
        summary,
    )


def part(**others):
    figures = ("refined_negative_elbo", "negative_log_likelihood", "amortisation", "approximation")
    return {
        "negative_elbo": 104.0,
        "likelihood": "exact",
        "n_images": 12,
        "quadrature_error": 0.001,
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
    EvaluationTableContract().validate(table)
    figures = set(table["figure"])
    assert {
        "−ELBO",
        "−ELBO above the floor",
        "rate (KL)",
        "mutual information of x and z, amortised",
    } <= figures
    assert not any("refined" in figure or "FID" in figure for figure in figures)


def test_a_thorough_evaluation_has_them(reports):
    metrics, latent, samples, summary = reports
    samples = {**samples, **SAMPLES}
    samples["sets"][0]["kid_standard_error"] = 0.01
    latent = {**latent, "refined": latent["amortised"]}
    table = tabulate(thorough(metrics), latent, samples, summary).set_index("figure")
    assert table.loc["−log p(x)", "obtained"] == 99.0
    assert table.loc["−log p(x), binarised", "standard_error"] == 0.5
    assert table.loc["FID (own features) of prior", "obtained"] == 3.0
    assert "mutual information of x and z, refined" in table.index


def test_a_bound_is_called_one_and_stands_beside_the_same_reference(reports):
    metrics, latent, samples, summary = reports
    metrics = thorough(metrics) | {"data": "Data: MNIST, all of it, checksums verified."}
    bound = part(likelihood="importance-weighted bound, 100 draws", quadrature_error=None)
    metrics["splits"]["test"] |= {"decomposition": bound, "binarized": bound}
    table = tabulate(metrics, latent, samples, summary).set_index("figure")
    assert "−log p(x), importance-weighted bound, 100 draws" in table.index
    assert "approximation gap, at least" in table.index, "as −log p(x) is below its bound"
    binarised = table.loc["−log p(x), binarised, importance-weighted bound, 100 draws"]
    assert binarised["reference"] == REFERENCES["−log p(x), binarised"].value
    assert "error of the quadrature" not in table.index


def test_published_figures_stand_beside_those_of_mnist_alone(reports):
    metrics, *others = reports
    of_the_sample = tabulate(*reports)
    assert of_the_sample["reference"].isna().all()
    statement = "Data: MNIST, 60,000 training and 10,000 test images, checksums verified."
    of_mnist = tabulate({**metrics, "data": statement}, *others).set_index("figure")
    assert of_mnist.loc["entropy floor", "reference"] == REFERENCES["entropy floor"].value
    assert pd.isna(of_mnist.loc["−ELBO", "source"])
    for other in ("Data: Fashion-MNIST, 1 image, checksums verified.", statement[:-9] + "..."):
        assert tabulate({**metrics, "data": other}, *others)["reference"].isna().all()


def test_figures_of_two_models_are_refused(reports):
    metrics, latent, samples, summary = reports
    with pytest.raises(ValueError, match="not of one model"):
        tabulate({**metrics, "model_version": "another"}, latent, samples, summary)


def test_the_contract_refuses_a_figure_that_is_there_twice_or_not_finite(reports):
    table = tabulate(*reports)
    twice = table.assign(figure="−ELBO")
    with pytest.raises(ValueError, match="twice"):
        EvaluationTableContract().validate(twice)
    with pytest.raises(ValueError, match=r"\['−ELBO'\] not finite"):
        EvaluationTableContract().validate(
            table.assign(obtained=[float("nan"), *table["obtained"][1:]])
        )


def test_people_get_it_in_markdown(reports):
    text = to_markdown(tabulate(*reports), reports[-1])
    lines = text.splitlines()
    assert lines[0].startswith("| Figure | Obtained |")
    assert sum(line.startswith("| −ELBO, nats |") for line in lines) == 1
    assert "Trained on 40 images. Data: a test." in lines[-1]
    assert lines[-1].endswith(
        "Published figures are of the whole MNIST, and stand beside its own alone."
    )


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


def test_the_figure_shows_the_parts_of_each_split_or_says_that_there_are_none(reports):
    metrics, summary = reports[0], reports[-1]
    empty = draw_decomposition(metrics, summary)
    assert len(empty.data) == 0
    assert "Not measured" in empty.layout.annotations[0].text
    full = draw_decomposition(thorough(metrics), summary)
    assert [bar.y[2] for bar in full.data] == [99.0, 97.0, 98.0]
    above = [annotation.text for annotation in full.layout.annotations[:-1]]
    assert above == ["−ELBO 104.00<br>approximation 97.00"] * 3
    assert list(full.data[0].x) == ["train", "validation", "test"]
    assert "Trained on 40 images" in full.layout.annotations[-1].text
