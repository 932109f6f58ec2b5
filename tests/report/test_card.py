"""The model card, read as the Hugging Face hub reads it."""

import pytest

from mnist_vae.report.card import render_card

hub = pytest.importorskip("huggingface_hub", reason="the extra `all` is needed")
pytestmark = pytest.mark.slow  # not by its time, but by what it needs


def card_of(files):
    return render_card(files.training_summary, files.metrics, files.run_manifest)


def read(text):
    """The metadata, by the reader of the hub's own library, which refuses a bad model index."""
    return hub.ModelCard(text, ignore_metadata_errors=False).data


def test_the_hub_reads_licence_library_data_set_and_figures(make_files):
    data = read(card_of(make_files()))
    assert (data.license, data.library_name, data.datasets) == ("mit", "keras", ["ylecun/mnist"])
    assert data.pipeline_tag == "unconditional-image-generation"
    assert "kedro" in data.tags
    results = {result.metric_type: result for result in data.eval_results}
    assert results["negative_elbo"].metric_value == 140.0
    assert results["negative_elbo"].metric_name == "−ELBO, nats, an image"
    assert results["kl"].metric_value == 7.0
    assert {result.dataset_type for result in data.eval_results} == {"ylecun/mnist"}
    assert {result.dataset_split for result in data.eval_results} == {"test"}


def test_the_metadata_come_back_from_the_library_as_they_were(make_files):
    text = card_of(make_files())
    again = hub.ModelCard(text)
    assert read(str(again)).to_dict() == read(text).to_dict()


def test_a_model_of_the_sample_does_not_pass_for_one_of_mnist(make_files):
    text = card_of(make_files(sample=True))
    data = read(text)
    assert data.datasets is None
    assert {result.dataset_name for result in data.eval_results} == {"MNIST sample"}
    assert {result.dataset_type for result in data.eval_results} == {"mnist-sample"}
    assert "> **This model was trained on the embedded sample" in text
    assert "86.76" not in text
    assert "45.534" not in text


def test_a_squared_error_is_no_negative_elbo(make_files):
    text = card_of(make_files(term="mse"))
    assert read(text).eval_results[0].metric_type == "squared_error_plus_kl"
    assert "compares with models of the same term alone" in text
    assert "nats | 140" not in text


@pytest.mark.parametrize("name", ["a: b\n---\n# c", "'\"", "<b>bold</b> | `x`", "日本", "- [x](y)"])
def test_the_name_of_a_data_set_breaks_neither_metadata_nor_text(make_files, name):
    files = make_files()
    said = f"Trained on 9 images. Data: {name}, checksums not configured."
    files.training_summary["statement"] = files.metrics["data"] = said
    files.run_manifest["data"]["name"] = name
    text = card_of(files)
    data = read(text)
    assert {result.dataset_name for result in data.eval_results} == {name}
    body = text.split("---\n", 2)[2] if "---" not in name else text
    assert "<b>" not in body.split("## Intended use")[1]
    assert text.count("\n# ") == 1


def test_it_says_what_it_is_for_what_not_its_figures_and_its_limits(make_files):
    text = card_of(make_files())
    for heading in ("Intended use", "Not intended", "Training data", "Figures", "Limits"):
        assert f"\n## {heading}\n" in text
    assert "| −ELBO, nats | 140.00 ± 0.50 |" in text
    assert "| entropy floor, nats | 45.50 | 45.534 |" in text
    assert "Commit abc, seed 42; keras 3.15" in text
