"""A picture is saved whole and shown; a folder of pictures holds the last save and nothing else."""

import base64
import io

import numpy as np
import pytest
from kedro.io.core import DatasetError
from PIL import Image

from mnist_vae.data.pictures import PictureDataset, PictureFolderDataset


def picture(shade: int) -> Image.Image:
    return Image.fromarray(np.full((28, 28), shade, np.uint8))


@pytest.fixture
def folder(tmp_path):
    return PictureFolderDataset(path=str(tmp_path / "images"))


def test_a_picture_comes_back_as_it_was(tmp_path):
    dataset = PictureDataset(filepath=str(tmp_path / "a.png"))
    dataset.save(picture(7))
    assert dataset.load() == picture(7)


def test_the_texts_of_a_picture_are_in_its_file(tmp_path, folder):
    about = {"model_version": "v1", "release": "000001-v1"}
    named = picture(7)
    named.info.update(about)
    PictureDataset(filepath=str(tmp_path / "a.png")).save(named)
    folder.save({"0000": named})
    for path in (tmp_path / "a.png", tmp_path / "images/0000.png"):
        assert Image.open(path).info == about


def test_the_preview_is_the_file_in_base64(tmp_path):
    dataset = PictureDataset(filepath=str(tmp_path / "a.png"))
    dataset.save(picture(7))
    content = base64.b64decode(dataset.preview(), validate=True)
    assert content == (tmp_path / "a.png").read_bytes()
    assert Image.open(io.BytesIO(content)).format == "PNG"


def test_a_failed_save_leaves_the_old_picture(tmp_path):
    dataset = PictureDataset(filepath=str(tmp_path / "a.png"))
    dataset.save(picture(7))
    with pytest.raises(DatasetError):
        dataset.save(Image.new("F", (28, 28)))  # PNG has no floating-point pixels
    assert dataset.load() == picture(7)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_holds_a_file_a_picture(folder, tmp_path):
    folder.save({"0000": picture(0), "0001": picture(1)})
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["0000.png", "0001.png"]
    assert {key: load() for key, load in folder.load().items()} == {
        "0000": picture(0),
        "0001": picture(1),
    }


def test_files_of_an_earlier_bigger_save_do_not_survive(folder):
    folder.save({f"{number:04d}": picture(1) for number in range(5)})
    folder.save({"0000": picture(2)})
    assert {key: load() for key, load in folder.load().items()} == {"0000": picture(2)}


def test_a_failed_save_leaves_the_old_folder_and_no_other(folder, tmp_path):
    folder.save({"0000": picture(1)})
    with pytest.raises(DatasetError):
        folder.save({"0000": picture(2), "0001": Image.new("F", (28, 28))})
    assert {key: load() for key, load in folder.load().items()} == {"0000": picture(1)}
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_a_folder_that_was_not_finished_does_not_exist(folder):
    with pytest.raises(DatasetError):
        folder.save({"0000": picture(2), "0001": Image.new("F", (28, 28))})
    assert not folder.exists()


def test_a_folder_works_on_another_file_system():
    folder = PictureFolderDataset(path="memory://output/images")
    folder.save({"0000": picture(1), "0001": picture(1)})
    folder.save({"0000": picture(3)})
    assert {key: load() for key, load in folder.load().items()} == {"0000": picture(3)}


def test_a_relative_path_of_one_word_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = PictureFolderDataset(path="images/")
    folder.save({"0000": picture(1)})
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["0000.png"]
