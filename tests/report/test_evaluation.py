"""The figures of a model, with what is known from elsewhere, where its loss is, and its card."""

import pytest

from mnist_vae.report.card import render_card
from mnist_vae.report.figures import (
    REFERENCES,
    evaluation_section,
    figures_of,
    loss_section,
    terms_of,
)
from tests.model_files import MNIST, SAMPLE, make_files

PART = {"likelihood": "exact", "quadrature_error": 0.001, "worst_tenth": 0.69, "misplaced": 0.06}
for name in ("negative_elbo", "refined_negative_elbo", "amortisation", "approximation"):
    PART |= {name: 5.0, f"{name}_standard_error": 0.5}
PART |= {"negative_log_likelihood": 133.0, "negative_log_likelihood_standard_error": 0.5}


def metrics_of(part=None, term="binary_crossentropy", data=MNIST):
    """The metrics of a model, which a thorough evaluation took apart."""
    metrics = make_files(term=term).metrics | {"data": data}
    for split in metrics["splits"].values():
        split["decomposition"] = part
    metrics["splits"]["test"]["binarized"] = part
    return metrics


def figures(*arguments, **options):
    metrics = metrics_of(*arguments, **options)
    return {one.name: one for one in (*terms_of(metrics), *figures_of(metrics))}


def test_what_was_not_measured_has_no_row():
    quick = figures()
    assert {"−ELBO", "−ELBO above the floor", "rate (KL)"} <= set(quick)
    assert quick["15-NN accuracy of z, amortised"].cells()[1] == "0.900 ± 0.010"
    assert not any("refined" in name for name in quick)


def test_a_bound_is_called_one_and_has_the_same_reference():
    assert figures(PART)["−log p(x)"].value == 133.0
    bound = {"likelihood": "importance-weighted bound, 9 draws", "quadrature_error": None}
    found = figures(PART | bound)
    assert "approximation gap, at least" in found, "as −log p(x) is below its bound"
    binarised = found["−log p(x), binarised, importance-weighted bound, 9 draws"]
    assert (binarised.reference, binarised.source) == REFERENCES["−log p(x), binarised"]
    assert "error of the quadrature" not in found


@pytest.mark.parametrize(
    ("data", "reference"),
    [
        (MNIST, 45.534),
        (SAMPLE, None),
        ("Data: Fashion-MNIST, 1 image, checksums verified.", None),
        ("Data: MNIST, 1 image, checksums not configured.", None),
    ],
)
def test_published_figures_are_compared_with_those_of_mnist_alone(data, reference):
    found = figures(data=data)
    assert found["entropy floor"].reference == reference
    assert found["−ELBO"].reference is None
    table = evaluation_section(metrics_of(data=data)).blocks[1]
    assert ("reference" in table.columns) == (reference is not None)


def test_a_thorough_evaluation_says_where_the_loss_is_and_each_figure_once():
    metrics = metrics_of(PART)
    text, where, table = loss_section(metrics).blocks
    assert "the likelihood is exact" in text.text
    assert where.text.startswith("6.0% of the test images")
    assert "A tenth of the images holds 69% of the amortisation" in where.text
    assert table.rows[2][:3] == ("test", "5.00 ± 0.50", "5.00 ± 0.50")
    names = [row[0] for row in evaluation_section(metrics).blocks[1].rows]
    assert "amortisation gap, binarised, nats" in names
    assert not {"−ELBO, nats", "rate (KL), nats", "amortisation gap, nats"} & set(names)


def test_nothing_of_squared_errors_is_in_nats_but_the_kl_divergence():
    metrics = metrics_of(PART, term="mse")
    sections = evaluation_section(metrics), loss_section(metrics)
    text = " ".join(section.model_dump_json() for section in sections)
    assert "squared error + KL" in text
    for harmless in ("KL, nats", "and not the nats of Bernoulli"):
        text = text.replace(harmless, "")
    assert "nats" not in text.lower()


# The card, read as the Hugging Face hub reads it: slow not by its time, but by what it needs
def card_of(files):
    """The text, and the metadata by the hub's own library, which refuses a bad model index."""
    hub = pytest.importorskip("huggingface_hub", reason="the extra `all` is needed")
    text = render_card(files.training_summary, files.metrics, files.run_manifest)
    return text, hub.ModelCard(text, ignore_metadata_errors=False).data


@pytest.mark.slow
def test_the_hub_reads_what_it_is_and_a_reader_what_it_is_for():
    text, data = card_of(make_files(shape=(32, 20), class_names=["circle", "é_*"]))
    assert (data.license, data.library_name, data.datasets) == ("mit", "keras", ["ylecun/mnist"])
    results = {result.metric_type: result for result in data.eval_results}
    assert (results["negative_elbo"].metric_value, results["kl"].metric_value) == (140.0, 7.0)
    assert results["negative_elbo"].metric_name == "−ELBO, nats, an image"
    of = {(result.dataset_type, result.dataset_split) for result in data.eval_results}
    assert of == {("ylecun/mnist", "test")}
    for part in (
        "## Intended use\n",
        "## Limits\n",
        "| −ELBO, nats | 140.00 ± 0.50 |",
        "| entropy floor, nats | 45.50 | 45.534 |",
        "Commit abc, seed 42; keras 3.15",
        "float32 pixels `[n, 640]`",
        "2 classes: circle, é\\_\\*.",
    ):
        assert part in text


@pytest.mark.slow
def test_the_sample_is_not_mnist_and_a_squared_error_no_negative_elbo():
    text, data = card_of(make_files(sample=True, term="mse"))
    assert data.datasets is None
    of = {(result.dataset_name, result.dataset_type) for result in data.eval_results}
    assert of == {("MNIST sample", "mnist-sample")}
    assert data.eval_results[0].metric_type == "squared_error_plus_kl"
    assert "> **This model was trained on the embedded sample" in text
    assert "compares with models of the same term alone" in text
    for never in ("86.76", "45.534", "nats | 140"):
        assert never not in text
