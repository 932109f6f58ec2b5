"""The points of the latent plane: small, and still what they were. The colours of classes."""

import base64
import colorsys
import gzip
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from mnist_vae.report.figures import NO_LABEL, colour_of
from mnist_vae.report.pictures import pack
from tests.model_files import make_files


def packed(files, max_points=1000):
    """What the page is given, and the columns as its script reads them."""
    of = files.latent_embeddings, files.images, files.training_summary
    found = pack(*of, max_points, seed=1)
    content, columns = gzip.decompress(base64.b64decode(found.points)), {}
    for name, kind in found.about["columns"]:
        columns[name] = np.frombuffer(content, f"<{kind}", found.about["n"])
        content = content[columns[name].nbytes :]
    assert content == b""
    return found, columns


@pytest.mark.parametrize(
    ("shape", "size"), [((28, 28), (14, 14)), ((32, 20), (16, 10)), ((3, 90), (1, 30))]
)
def test_every_point_is_where_its_mean_is_with_its_own_loss_and_image(shape, size):
    files = make_files(300, shape=shape)
    found, columns = packed(files)
    table = files.latent_embeddings.iloc[columns["id"].astype(int)]
    assert np.array_equal(columns["x"], table["z_mean_00"])
    assert columns["loss"] == pytest.approx((table["reconstruction"] + table["kl"]).to_numpy())
    assert [found.about["splits"][code] for code in columns["split"]] == table["split"].tolist()
    assert table["label"].tolist() == sorted(table["label"])  # the traces are slices
    assert found.about["counts"] == [100, 100, 100]
    height, width, across = (found.about[name] for name in ("height", "width", "across"))
    assert (height, width) == size
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(found.sprite))).convert("L"))
    assert sheet.shape == (17 * height, across * width)
    greys = 36 * np.rint(columns["id"] % 251 * 7 / 255)  # the nearest of eight levels
    for row, column in np.ndindex(size):
        assert np.array_equal(sheet[row::height, column::width].ravel()[:300], greys)


def test_images_that_were_not_kept_are_points_without_a_picture():
    files = make_files(100)
    found, columns = packed(make_files(100, images=files.images[:1]))
    splits = np.array(found.about["splits"])[columns["split"]]
    assert (columns["picture"] == (splits == "train")).all()


def test_of_too_many_images_some_are_drawn_of_each_class_and_it_is_said():
    found, _ = packed(make_files(300), 60)
    assert found.caption == "Latent means of 60 of 300 images"
    assert found.about["counts"] == [20, 20, 20]


def test_of_many_dimensions_the_two_that_vary_most_are_drawn_and_of_one_heights():
    found, _ = packed(make_files(100, latent_dim=4))
    assert found.about["axes"] == ["z_mean_02", "z_mean_03"]
    assert found.caption.endswith("the 2 of 4 dimensions that vary most")
    found, columns = packed(make_files(100, latent_dim=1))
    assert (found.about["equal"], len(columns["y"])) == (False, 100)


@pytest.mark.parametrize("names", [None, ["circle", "é", "a long name of a class"]])
def test_labels_have_their_names_and_some_missing_is_a_group_of_its_own(names):
    files = make_files(90, class_names=names)
    table = files.latent_embeddings
    table["label"] = table["label"].astype(float).where(table["image_id"] >= 9)
    found, _ = packed(files)
    shown = [*(names or "012"), "none"]
    assert found.about["labels"] == [row[0] for row in found.table.rows] == shown
    assert found.about["colours"] == [*map(colour_of, range(3)), NO_LABEL]
    assert found.about["counts"] == [27, 27, 27, 9]


def test_any_number_of_classes_have_colours_of_their_own():
    names = map(colour_of, [*range(100), None])
    colours = [[int(name[place : place + 2], 16) for place in (1, 3, 5)] for name in names]
    for count, least in ((12, 30), (101, 10)):
        pairs = itertools.combinations([*colours[:count], colours[-1]][:count], 2)
        assert min(sum(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in pairs) >= least
    lightness = [colorsys.rgb_to_hls(*(part / 255 for part in one))[1] for one in colours]
    assert all(0.3 < one < 0.7 for one in lightness), "seen on black and on white"
    assert colour_of(255) == colour_of(None) == NO_LABEL
