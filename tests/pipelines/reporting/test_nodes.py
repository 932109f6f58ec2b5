"""What the figures show."""

import numpy as np
import pandas as pd
import pytest

from mnist_vae.params import ReportingParams
from mnist_vae.pipelines.reporting import nodes

STATEMENT = "Data: random noise."
SUMMARY = {
    "statement": STATEMENT,
    "model_version": "v",
    "reconstruction": "binary_crossentropy",
}
PARAMS = ReportingParams()


def history(epochs=5):
    epoch = np.arange(1, epochs + 1)
    terms = {
        prefix + term: value + offset + (epoch - 3) ** 2
        for prefix, offset in (("", 0), ("val_", 5))
        for term, value in (("loss", 150.0), ("reconstruction", 145.0), ("kl", 5.0))
    }
    return pd.DataFrame({"epoch": epoch, **terms, "learning_rate": 0.001 / epoch})


def embeddings(latent_dim, n=60, labelled=True, splits=("train", "validation", "test")):
    random = np.random.default_rng(0)
    scales = [1, 2, 9, 3, 8][:latent_dim]
    frame = pd.DataFrame({"image_id": np.arange(n), "split": np.resize(splits, n)})
    if labelled:
        frame["label"] = (np.arange(n) % 10).astype(np.uint8)
    for dimension, scale in enumerate(scales):
        frame[f"z_mean_{dimension:02d}"] = (random.standard_normal(n) * scale).astype(np.float32)
        frame[f"z_log_var_{dimension:02d}"] = np.float32(50) * dimension
    return frame.assign(reconstruction=100.0, kl=5.0, model_version="v")


def title(figure):
    return figure.layout.title.text


def said(figure):
    return figure.layout.annotations[-1].text.replace("<br>", " ")


def test_the_curves_show_every_column_of_the_history():
    table = history()
    figure = nodes.draw_learning_curves(table, SUMMARY)
    terms = ("loss", "val_loss", "reconstruction", "val_reconstruction", "kl", "val_kl")
    assert len(figure.data) == 7
    for curve, column in zip(figure.data, (*terms, "learning_rate"), strict=True):
        assert list(curve.x) == table["epoch"].tolist()
        assert list(curve.y) == table[column].tolist()
        assert curve.name == (
            "learning rate"
            if column == "learning_rate"
            else "validation"
            if column.startswith("val_")
            else "training"
        )
    units = [annotation.text for annotation in figure.layout.annotations][:4]
    assert units == ["Loss, nats", "Reconstruction, nats", "KL, nats", "Learning rate"]


def test_a_squared_error_is_not_said_to_be_nats():
    figure = nodes.draw_learning_curves(history(), SUMMARY | {"reconstruction": "mse"})
    units = [annotation.text for annotation in figure.layout.annotations][:4]
    assert units == ["Loss", "Reconstruction", "KL, nats", "Learning rate"]
    assert title(figure) == "Lowest validation loss 155.0, after epoch 3"


def test_the_legend_names_training_and_validation_once():
    figure = nodes.draw_learning_curves(history(), SUMMARY)
    assert [curve.name for curve in figure.data if curve.showlegend] == ["training", "validation"]


def test_the_title_of_the_curves_says_where_validation_was_best():
    figure = nodes.draw_learning_curves(history(), SUMMARY)
    assert title(figure) == "Lowest validation loss 155.0 nats, after epoch 3"


def test_one_epoch_is_a_visible_point():
    figure = nodes.draw_learning_curves(history(epochs=1), SUMMARY)
    assert all("markers" in curve.mode for curve in figure.data)


def test_few_epochs_are_counted_in_whole_numbers():
    assert nodes.draw_learning_curves(history(epochs=2), SUMMARY).layout.xaxis.dtick == 1
    assert nodes.draw_learning_curves(history(epochs=60), SUMMARY).layout.xaxis.dtick is None


def test_the_scatter_shows_the_test_images_by_label():
    table = embeddings(2, n=100)
    figure = nodes.draw_latent_scatter(table, SUMMARY, PARAMS, 42)
    test = table[table["split"] == "test"]
    assert title(figure) == f"Latent means of {len(test)} test images"
    assert [points.name for points in figure.data] == [str(label) for label in range(10)]
    assert len({points.marker.color for points in figure.data}) == 10
    for label, points in enumerate(figure.data):
        rows = test[test["label"] == label]
        assert np.allclose(points.x, rows["z_mean_00"], atol=1e-4)
        assert np.allclose(points.y, rows["z_mean_01"], atol=1e-4)
        assert [shown[0] for shown in points.customdata] == rows["image_id"].tolist()
    assert figure.layout.yaxis.scaleanchor == "x"


def test_without_a_test_split_every_image_is_shown():
    figure = nodes.draw_latent_scatter(embeddings(2, splits=("new",)), SUMMARY, PARAMS, 42)
    assert title(figure) == "Latent means of 60 images"
    assert sum(len(points.x) for points in figure.data) == 60


def test_a_label_keeps_its_colour_when_others_are_missing():
    table = embeddings(2, n=100)
    colours = {
        points.name: points.marker.color
        for points in nodes.draw_latent_scatter(table, SUMMARY, PARAMS, 42).data
    }
    some = nodes.draw_latent_scatter(table[table["label"] > 6], SUMMARY, PARAMS, 42)
    assert {points.name: points.marker.color for points in some.data} == {
        name: colours[name] for name in ("7", "8", "9")
    }


def test_the_hover_text_tells_id_split_and_label():
    points = nodes.draw_latent_scatter(embeddings(2), SUMMARY, PARAMS, 42).data[2]
    assert points.customdata[0][1:] == ["test", 2]
    for name in ("image_id", "split", "label"):
        assert f"{name} %{{customdata[" in points.hovertemplate


def test_without_labels_the_points_have_one_colour():
    figure = nodes.draw_latent_scatter(embeddings(2, labelled=False), SUMMARY, PARAMS, 42)
    (points,) = figure.data
    assert len(points.x) == 20
    assert figure.layout.showlegend is False
    assert "label" not in points.hovertemplate


def test_of_many_latents_the_two_that_vary_most_are_shown():
    figure = nodes.draw_latent_scatter(embeddings(5), SUMMARY, PARAMS, 42)
    assert figure.layout.xaxis.title.text == "z_mean_02"
    assert figure.layout.yaxis.title.text == "z_mean_04"
    assert title(figure).replace("<br>", " ").endswith("the 2 of 5 dimensions that vary most")


def test_a_single_latent_is_shown_against_the_label():
    table = embeddings(1)
    figure = nodes.draw_latent_scatter(table, SUMMARY, PARAMS, 42)
    assert figure.layout.yaxis.title.text == "label"
    for points in figure.data:
        assert np.rint(points.y).tolist() == [int(points.name)] * len(points.y)
    unlabelled = nodes.draw_latent_scatter(table.drop(columns="label"), SUMMARY, PARAMS, 42)
    assert len(unlabelled.data[0].x) == 20
    assert unlabelled.layout.yaxis.visible is False


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_too_many_points_are_sampled_by_the_seed(latent_dim):
    table, few = embeddings(latent_dim), ReportingParams(max_points=7)
    first, again, other = (
        nodes.draw_latent_scatter(table, SUMMARY, few, seed) for seed in (42, 42, 43)
    )
    assert sum(len(points.x) for points in first.data) == 7
    assert title(first).startswith("Latent means of 7 of 20 test images")
    assert first.to_json() == again.to_json() != other.to_json()


def test_both_figures_name_the_data():
    for figure in (
        nodes.draw_learning_curves(history(), SUMMARY),
        nodes.draw_latent_scatter(embeddings(2), SUMMARY, PARAMS, 42),
    ):
        assert said(figure) == STATEMENT


def test_a_long_statement_is_broken_into_lines_that_have_their_space():
    statement = "Data: " + "five thousand digits, " * 12
    long, short = (
        nodes.draw_learning_curves(history(), SUMMARY | {"statement": text})
        for text in (statement, "x")
    )
    lines = long.layout.annotations[-1].text.split("<br>")
    assert " ".join(lines) == statement.strip()
    assert max(map(len, lines)) <= 66
    tops = [max(axis.domain[1] for axis in f.select_yaxes()) for f in (long, short)]
    assert tops[0] < tops[1] < 1


def test_embeddings_of_another_model_are_refused():
    table = embeddings(2).assign(model_version="older")
    with pytest.raises(ValueError, match="expected those of v, received those of older"):
        nodes.draw_latent_scatter(table, SUMMARY, PARAMS, 42)


@pytest.mark.parametrize("splits", [("train", "test"), ("train",)])
@pytest.mark.parametrize(("max_points", "count"), [(20, "20 of {}"), (10_000, "{}")])
def test_the_title_says_of_how_many_images_points_are_shown(splits, max_points, count):
    table = embeddings(2, n=100, splits=splits)
    figure = nodes.draw_latent_scatter(table, SUMMARY, ReportingParams(max_points=max_points), 1)
    shown = count.format(100 // len(splits))
    assert title(figure).startswith(f"Latent means of {shown} ")


def test_embeddings_of_two_models_are_refused():
    other = embeddings(2, n=100).assign(model_version=["v"] * 99 + ["w"])
    with pytest.raises(ValueError, match="expected those of v, received those of v, w"):
        nodes.draw_latent_scatter(other, SUMMARY, PARAMS, 1)
