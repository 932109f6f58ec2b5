"""A folder of pictures as an archive of images: what it says, and what it is when it changes."""

import numpy as np
import pytest
from PIL import Image

from mnist_vae.data.archive import FILE_KEYS, ImageArchiveDataset
from mnist_vae.data.picture_archive import PictureArchiveDataset
from mnist_vae.data.picture_folder import PictureError

FILES = {key: {"name": "x"} for key in FILE_KEYS}


@pytest.fixture
def flowers(tmp_path):
    """Light squares on black: two classes, each with a test picture."""
    for number, name in enumerate(("train/é", "train/rose", "test/é", "test/rose")):
        folder = tmp_path / "flowers" / name
        folder.mkdir(parents=True)
        grey = np.zeros((8, 6), np.uint8)
        grey[2:6, 2:4] = 100 + number
        Image.fromarray(grey).save(folder / f"{number}.png")
    return tmp_path / "flowers"


def dataset(folder, **options):
    return PictureArchiveDataset(path=str(folder), **{"image_size": None} | options)


def test_the_archive_has_images_of_one_shape_in_named_classes_and_says_so(flowers):
    images, manifest = vars(dataset(flowers).load()).values()
    assert images.shape == (8, 6)
    assert images.class_names == ("rose", "é")
    assert images.label.tolist() == [0, 1, 0, 1]
    assert images.split.tolist() == ["test", "test", "train", "train"]
    assert manifest["statement"] == "Data: flowers, 4 pictures of 8 x 6 pixels, 2 classes."
    assert manifest["files"]["pictures"]["items"] == 4


@pytest.mark.parametrize(
    ("given", "shape"), [([5, 9], (5, 9)), ("5x9", (5, 9)), ("5 x 9", (5, 9)), (7, (7, 7))]
)
def test_a_size_is_two_numbers_or_one_as_a_list_or_as_it_can_be_typed(flowers, given, shape):
    assert dataset(flowers, image_size=given).load().images.shape == shape


def test_files_that_are_left_out_and_a_white_background_are_reported(flowers, caplog):
    (flowers / "train/rose/notes.png").write_text("hello")
    with pytest.raises(PictureError, match=r"has 1 bad files of 5: expected at most 1.0%"):
        dataset(flowers).load()
    manifest = dataset(flowers, max_bad=0.2, invert=True).load().manifest
    assert list(manifest["left_out"]) == ["train/rose/notes.png"]
    assert manifest["inverted"]
    white, left_out = caplog.messages
    assert left_out.startswith(f"1 of 5 files in {flowers} are left out: train/rose/notes.png (exp")
    assert "seems white: expected light on dark" in white
    assert white.endswith("set `source.invert=false`.")


def test_another_picture_name_class_size_or_split_is_another_checksum(flowers):
    def checksum(**options):
        return dataset(flowers, **options).load().manifest["files"]["pictures"]["sha256"]

    found = [checksum(), checksum(), checksum(invert=True), checksum(image_size=[6, 8])]
    for old, new in (("train/rose", "train/é"), ("train/é", "test/é")):
        (flowers / old / "1.png").rename(flowers / new / "1.png")
        found.append(checksum())
    assert found[0] == found[1]
    assert len(set(found)) == 5


def test_a_folder_that_is_named_takes_the_place_of_the_other_sources(flowers, tmp_path):
    def archive(path):
        given = {"path": path, "image_size": None, "invert": False, "max_bad": 0.0}
        return ImageArchiveDataset(
            path=str(tmp_path), order=["sample"], mirrors=[], files=FILES, pictures=given
        )

    named = archive(str(flowers))
    assert named.load().manifest["source"] == "pictures"
    assert named.exists()
    named.check()
    assert len(named.preview()) > 100
    assert archive(None).load().manifest["source"] == "sample"
    missing = archive(str(tmp_path / "typo"))
    assert not missing.exists()
    for refused in (missing.check, missing.load):
        with pytest.raises(PictureError, match=r"typo is not a folder: .* correct `so"):
            refused()
