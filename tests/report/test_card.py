"""The model card, read as the Hugging Face hub reads it."""

import pytest

from mnist_vae.report.card import render_card
from tests.model_files import make_files

hub = pytest.importorskip("huggingface_hub", reason="the extra `all` is needed")
pytestmark = pytest.mark.slow  # not by its time, but by what it needs


def card_of(files):
    """The text, and the metadata by the hub's own library, which refuses a bad model index."""
    text = render_card(files.training_summary, files.metrics, files.run_manifest)
    return text, hub.ModelCard(text, ignore_metadata_errors=False).data


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
        "## Not intended\n",
        "## Limits\n",
        "| −ELBO, nats | 140.00 ± 0.50 |",
        "| entropy floor, nats | 45.50 | 45.534 |",
        "Commit abc, seed 42; keras 3.15",
        "float32 pixels `[n, 640]`",
        "2 classes: circle, é\\_\\*.",
    ):
        assert part in text


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


@pytest.mark.parametrize("name", ["a: b\n---\n# c", "<b>'\"</b> | `x`", "日本"])
def test_the_name_of_a_data_set_breaks_neither_metadata_nor_text(name):
    files = make_files()
    said = f"Trained on 9 images. Data: {name}, checksums not configured."
    files.training_summary["statement"] = files.metrics["data"] = said
    files.run_manifest["data"]["name"] = name
    text, data = card_of(files)
    assert {result.dataset_name for result in data.eval_results} == {name}
    assert "<b>" not in text.split("## Intended use")[1]
    assert text.count("\n# ") == 1
