"""The points of the latent plane: small, and still what they were."""

import base64
import gzip
import io

import numpy as np
import pytest
from PIL import Image

from mnist_vae.report import scatter
from mnist_vae.report.embeddings import choose
from mnist_vae.report.figures import NO_LABEL, PALETTE
from mnist_vae.report.scatter import pack

TERM = "binary_crossentropy"


def packed(files, images, max_points):
    return pack(choose(files.latent_embeddings, images, max_points, 24, 1), images, 1, TERM)


def unpacked(found):
    """The columns as the page's script reads them."""
    content = gzip.decompress(base64.b64decode(found.points))
    columns, offset = {}, 0
    for name, kind in found.about["columns"]:
        values = np.frombuffer(content, f"<{kind}", found.about["n"], offset)
        columns[name] = values
        offset += values.nbytes
    assert offset == len(content)
    for name in ("x", "y"):
        low, high = found.about[name]["range"]
        columns[name] = low + columns[name] / 65535 * (high - low)
    return columns


def thumbnail(found, point):
    """The thumbnail of a point, as the script cuts it out."""
    about = found.about
    sprite = base64.b64decode(found.sprites[point // about["tiles"]])
    sheet = np.asarray(Image.open(io.BytesIO(sprite)).convert("L"))
    row, column = divmod(point % about["tiles"], about["across"])
    height, width = about["height"], about["width"]
    return sheet[row * height :, column * width :][:height, :width]


def test_every_point_is_where_its_mean_is_with_its_own_loss_and_image(make_files):
    files = make_files(300)
    found = packed(files, files.images, 1000)
    columns = unpacked(found)
    table = files.latent_embeddings.set_index("image_id").loc[columns["id"].astype(int)]
    step = float(np.ptp(table["z_mean_00"])) / 65535
    assert columns["x"] == pytest.approx(table["z_mean_00"].to_numpy(), abs=step)
    assert columns["loss"] == pytest.approx((table["reconstruction"] + table["kl"]).to_numpy())
    assert [found.about["splits"][code] for code in columns["split"]] == table["split"].tolist()
    assert table["label"].tolist() == sorted(table["label"])  # the traces are slices
    assert sum(found.about["counts"]) == 300
    for point in (0, 123, 299):
        grey = int(columns["id"][point]) % 251
        assert np.abs(thumbnail(found, point).astype(int) - grey).max() <= 256 / 7 / 2


def test_images_beyond_one_sprite_are_found_in_the_next(make_files, monkeypatch):
    monkeypatch.setattr(scatter, "TILES", 100)
    files = make_files(250)
    found = packed(files, files.images, 1000)
    assert len(found.sprites) == 3
    columns = unpacked(found)
    for point in (99, 100, 249):
        assert abs(int(thumbnail(found, point)[0, 0]) - int(columns["id"][point]) % 251) < 19


def test_images_that_were_not_kept_are_points_without_a_picture(make_files):
    files = make_files(100)
    found = packed(files, files.images[:1], 1000)
    columns = unpacked(found)
    splits = np.array(found.about["splits"])[columns["split"]]
    assert (columns["picture"] == (splits == "train")).all()
    assert packed(files, [], 1000).sprites == ()


def test_of_too_many_images_some_are_drawn_of_each_class_and_it_is_said(make_files):
    files = make_files(300)
    found = packed(files, files.images, 60)
    assert found.caption == "Latent means of 60 of 300 images"
    assert found.about["counts"] == [20, 20, 20]


def test_of_many_dimensions_the_two_that_vary_most_are_drawn(make_files):
    files = make_files(100, latent_dim=4)
    found = packed(files, files.images, 1000)
    assert (found.about["x"]["name"], found.about["y"]["name"]) == ("z_mean_02", "z_mean_03")
    assert found.caption.endswith("the 2 of 4 dimensions that vary most")


def test_a_single_dimension_has_heights_that_mean_nothing(make_files):
    files = make_files(100, latent_dim=1)
    found = packed(files, files.images, 1000)
    assert not found.about["equal"]
    assert len(unpacked(found)["y"]) == 100


def test_some_labels_missing_is_a_group_of_its_own(make_files):
    files = make_files(90)
    table = files.latent_embeddings
    table["label"] = table["label"].astype(float).where(table["image_id"] >= 9)
    found = packed(files, files.images, 1000)
    assert found.about["labels"] == ["0", "1", "2", "none"]
    assert found.about["colours"] == [*PALETTE[:3], NO_LABEL]
    assert found.about["counts"] == [27, 27, 27, 9]
    assert [row[0] for row in found.table.rows] == ["0", "1", "2", "none"]
