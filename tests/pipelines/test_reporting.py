"""What the figures show."""

import numpy as np
import pandas as pd
import pytest

from mnist_vae.params import ReportingParams
from mnist_vae.pipelines.reporting import nodes
from tests.model_files import make_files

BCE = "binary_crossentropy"
SUMMARY = {"statement": "Data: random noise.", "model_version": "v1", "reconstruction": BCE}
TERMS = ("loss", "val_loss", "reconstruction", "val_reconstruction", "kl", "val_kl")
EPOCH = np.arange(1, 6)
HISTORY = pd.DataFrame(
    {
        "epoch": EPOCH,
        **{name: 100.0 + 5 * place + (EPOCH - 3) ** 2 for place, name in enumerate(TERMS)},
        "learning_rate": 0.001 / EPOCH,
    }
)


def curves(**summary):
    return nodes.draw_learning_curves(HISTORY, SUMMARY | summary)


def embeddings(latent_dim=2, **of):
    """Of 80 training, 10 validation and 10 test images in three classes; the last z varies most."""
    return make_files(100, latent_dim=latent_dim, **of).latent_embeddings


def scatter(table, seed=42, **params):
    return nodes.draw_latent_scatter(table, SUMMARY, ReportingParams(**params), seed)


def title(figure):
    return figure.layout.title.text.replace("<br>", " ")


def test_the_curves_show_every_column_of_the_history_and_few_epochs_in_whole_numbers():
    figure = curves()
    assert figure.layout.xaxis.dtick == 1
    assert all("markers" in curve.mode for curve in figure.data), "one epoch is a visible point"
    names = [*["training", "validation"] * 3, "learning rate"]
    for curve, column, name in zip(figure.data, [*TERMS, "learning_rate"], names, strict=True):
        assert list(curve.x) == HISTORY["epoch"].tolist()
        assert list(curve.y) == HISTORY[column].tolist()
        assert curve.name == name
    assert [curve.name for curve in figure.data if curve.showlegend] == ["training", "validation"]


@pytest.mark.parametrize(("term", "unit", "nats"), [(BCE, ", nats", " nats"), ("mse", "", "")])
def test_only_what_is_in_nats_is_said_to_be(term, unit, nats):
    figure = curves(reconstruction=term)
    panels = [annotation.text for annotation in figure.layout.annotations][:4]
    assert panels == [f"Loss{unit}", f"Reconstruction{unit}", "KL, nats", "Learning rate"]
    assert title(figure) == f"Lowest validation loss 105.0{nats}, after epoch 3"


def test_the_scatter_shows_the_test_images_by_label():
    table = embeddings()
    figure = scatter(table)
    assert title(figure) == "Latent means of 10 test images"
    assert [points.name for points in figure.data] == ["0", "1", "2"]
    for label, points in enumerate(figure.data):
        rows = table[(table["split"] == "test") & (table["label"] == label)]
        assert np.allclose(points.x, rows["z_mean_00"], atol=1e-4)
        assert np.allclose(points.y, rows["z_mean_01"], atol=1e-4)
        known = [[image_id, "test", str(label)] for image_id in rows["image_id"]]
        assert [list(shown) for shown in points.customdata] == known
        hover = "image_id %{customdata[0]}<br>split %{customdata[1]}<br>label"
        assert points.hovertemplate.startswith(hover)
    assert figure.layout.yaxis.scaleanchor == "x"
    colours = [points.marker.color for points in figure.data]
    assert len(set(colours)) == 3
    some = scatter(table[table["label"] > 0])
    assert [points.marker.color for points in some.data] == colours[1:]


def test_without_labels_the_points_have_one_colour():
    figure = scatter(embeddings(1, labelled=False))
    (points,) = figure.data
    assert len(points.x) == 10
    assert figure.layout.yaxis.visible is False
    assert figure.layout.showlegend is False
    assert "label" not in points.hovertemplate


@pytest.mark.parametrize(("test", "what"), [("test", "10 test images"), ("more", "100 images")])
@pytest.mark.parametrize("latent_dim", [1, 2])
def test_too_many_points_are_sampled_by_the_seed(latent_dim, test, what):
    table = embeddings(latent_dim).replace({"split": {"test": test}})
    assert title(scatter(table)).startswith(f"Latent means of {what}")
    first, again, other = (scatter(table, seed, max_points=7) for seed in (42, 42, 43))
    assert sum(len(points.x) for points in first.data) == 7
    assert title(first).startswith(f"Latent means of 7 of {what}")
    assert first.to_json() == again.to_json() != other.to_json()


@pytest.mark.parametrize("others", [100, 1])
def test_embeddings_of_another_model_are_refused(others):
    table = embeddings()
    table["model_version"] = ["v1"] * (100 - others) + ["older"] * others
    with pytest.raises(ValueError, match=r"expected those of v1, received those of .*older"):
        scatter(table)
