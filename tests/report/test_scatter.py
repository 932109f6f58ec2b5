"""The points of the latent plane: small, and still what they were."""

import base64
import gzip
import io

import numpy as np
import pytest
from PIL import Image

from mnist_vae.report.figures import NO_LABEL, colour_of
from mnist_vae.report.scatter import pack
from tests.model_files import make_files


def packed(files, max_points=1000):
    of = files.latent_embeddings, files.images, files.training_summary
    return pack(*of, max_points, seed=1)


def unpacked(found):
    """The columns as the page's script reads them."""
    content = gzip.decompress(base64.b64decode(found.points))
    columns, offset = {}, 0
    for name, kind in found.about["columns"]:
        values = np.frombuffer(content, f"<{kind}", found.about["n"], offset)
        columns[name] = values
        offset += values.nbytes
    assert offset == len(content)
    return columns


def thumbnail(found, point):
    """The thumbnail of a point, as the script cuts it out."""
    about = found.about
    sprite = base64.b64decode(found.sprite)
    sheet = np.asarray(Image.open(io.BytesIO(sprite)).convert("L"))
    row, column = divmod(point, about["across"])
    height, width = about["height"], about["width"]
    return sheet[row * height :, column * width :][:height, :width]


@pytest.mark.parametrize(
    ("shape", "size"), [((28, 28), (14, 14)), ((32, 20), (16, 10)), ((3, 90), (1, 30))]
)
def test_every_point_is_where_its_mean_is_with_its_own_loss_and_image(shape, size):
    files = make_files(300, shape=shape)
    found = packed(files)
    columns = unpacked(found)
    table = files.latent_embeddings.set_index("image_id").loc[columns["id"].astype(int)]
    assert np.array_equal(columns["x"], table["z_mean_00"])
    assert columns["loss"] == pytest.approx((table["reconstruction"] + table["kl"]).to_numpy())
    assert [found.about["splits"][code] for code in columns["split"]] == table["split"].tolist()
    assert table["label"].tolist() == sorted(table["label"])  # the traces are slices
    assert found.about["counts"] == [100, 100, 100]
    for point in (0, 99, 100, 299):
        grey = int(columns["id"][point]) % 251
        assert thumbnail(found, point).shape == size
        assert np.abs(thumbnail(found, point).astype(int) - grey).max() <= 256 / 7 / 2


def test_images_that_were_not_kept_are_points_without_a_picture():
    files = make_files(100)
    found = packed(make_files(100, images=files.images[:1]))
    columns = unpacked(found)
    splits = np.array(found.about["splits"])[columns["split"]]
    assert (columns["picture"] == (splits == "train")).all()


def test_of_too_many_images_some_are_drawn_of_each_class_and_it_is_said():
    found = packed(make_files(300), 60)
    assert found.caption == "Latent means of 60 of 300 images"
    assert found.about["counts"] == [20, 20, 20]


def test_of_many_dimensions_the_two_that_vary_most_are_drawn_and_of_one_heights():
    found = packed(make_files(100, latent_dim=4))
    assert found.about["axes"] == ["z_mean_02", "z_mean_03"]
    assert found.caption.endswith("the 2 of 4 dimensions that vary most")
    found = packed(make_files(100, latent_dim=1))
    assert (found.about["equal"], len(unpacked(found)["y"])) == (False, 100)


@pytest.mark.parametrize("names", [None, ["circle", "é", "a long name of a class"]])
def test_labels_have_their_names_and_some_missing_is_a_group_of_its_own(names):
    files = make_files(90, class_names=names)
    table = files.latent_embeddings
    table["label"] = table["label"].astype(float).where(table["image_id"] >= 9)
    found = packed(files)
    shown = [*(names or "012"), "none"]
    assert found.about["labels"] == [row[0] for row in found.table.rows] == shown
    assert found.about["colours"] == [*map(colour_of, range(3)), NO_LABEL]
    assert found.about["counts"] == [27, 27, 27, 9]
