"""Data sets of one file: what was saved comes back, and is shown."""

import base64
import json
import typing

import numpy as np
import pytest
from kedro.io import DataCatalog
from kedro.io.core import DatasetError
from PIL import Image

from mnist_vae.data.files import (
    FigureDataset,
    JSONDataset,
    PictureDataset,
    PictureFolderDataset,
    RecordDataset,
    TextDataset,
)
from mnist_vae.data.models import TrainingBackupDataset
from mnist_vae.jobs.records import BatchRecord, Intake

RECORD = "mnist_vae.jobs.records.Intake"
INTAKE = Intake(batches={"a": BatchRecord(outcome="accepted", images=3)})


def picture(shade: int) -> Image.Image:
    return Image.fromarray(np.full((28, 28), shade, np.uint8))


@pytest.mark.parametrize("place", ["{}", "memory:/{}"], ids=["disk", "another file system"])
@pytest.mark.parametrize(
    ("of", "options", "data"),
    [
        (JSONDataset, {}, {"a": [1, None]}),
        (TextDataset, {}, "| −ELBO | 1 |"),
        (PictureDataset, {}, picture(7)),
        (RecordDataset, {"record": RECORD}, INTAKE),
        (PictureFolderDataset, {}, {"a 1": picture(1), "b": picture(2)}),
    ],
)
def test_what_was_saved_comes_back(tmp_path, place, of, options, data):
    dataset = of(filepath=place.format(tmp_path / "a"), **options)
    assert not dataset.exists()
    with pytest.raises(DatasetError, match=r"no file .*/a: expected .* there, received nothing"):
        dataset.load()
    for _ in range(2):
        dataset.save(data)
    assert dataset.load() == data


@pytest.mark.parametrize("of", [JSONDataset, PictureFolderDataset, TrainingBackupDataset])
def test_nothing_is_saved_to_an_entry_that_is_read_only(tmp_path, of):
    options = {} if of is TrainingBackupDataset else {"read_only": True}
    dataset = of(filepath=str(tmp_path / "a"), **options)
    with pytest.raises(DatasetError, match="a is read-only: expected it as the input"):
        dataset.save({})
    assert not dataset.exists()


def test_an_entry_can_be_written_as_configuration_again(tmp_path):
    config = {
        "type": "mnist_vae.data.files.RecordDataset",
        "record": RECORD,
        "filepath": str(tmp_path / "a.json"),
    }
    catalog = DataCatalog.from_config({"intake": config})
    catalog["intake"].exists()  # makes the dataset, which was lazy until here
    written, *_ = catalog.to_config()
    assert {key: written["intake"][key] for key in config} == config


def test_each_is_shown_by_the_preview_that_kedro_viz_has_for_its_type(tmp_path):
    of_type = {
        "TextPreview": (TextDataset(filepath=f"{tmp_path}/a.md"), "# A"),
        "JSONPreview": (RecordDataset(filepath=f"{tmp_path}/a.json", record=RECORD), INTAKE),
        "ImagePreview": (PictureDataset(filepath=f"{tmp_path}/a.png"), picture(7)),
    }
    for name, (dataset, data) in of_type.items():
        dataset.save(data)
        assert typing.get_type_hints(dataset.preview)["return"].__name__ == name
    markdown, record, of_picture = (dataset.preview() for dataset, _ in of_type.values())
    assert markdown == "# A"
    assert json.loads(record)["batches"]["a"]["images"] == 3
    assert base64.b64decode(of_picture, validate=True) == (tmp_path / "a.png").read_bytes()


def test_figures_are_the_same_bytes_with_and_without_orjson(tmp_path):
    import plotly.graph_objects as go

    path = tmp_path / "figure.json"
    FigureDataset(filepath=str(path)).save(go.Figure(go.Scatter(y=[4.9999951443169266e-05])))
    assert "4.9999951443169266e-05" in path.read_text()


@pytest.mark.parametrize("content", ['{"other": 1}', "{"])
def test_a_record_of_another_version_says_what_to_do(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    dataset = RecordDataset(filepath=str(tmp_path / "a.json"), record=RECORD)
    with pytest.raises(DatasetError, match="delete the file and run the pipeline again"):
        dataset.load()


def test_an_optional_record_is_none_where_there_is_no_file(tmp_path):
    optional = RecordDataset(filepath=str(tmp_path / "a.json"), record=RECORD, optional=True)
    assert optional.load() is None
    assert not optional.exists()  # so that `--only-missing-outputs` makes it
    optional.save(INTAKE)
    assert optional.load() == INTAKE


def test_the_texts_of_a_picture_are_in_its_file(tmp_path):
    named = picture(7)
    named.info.update({"model_version": "v1", "release": "000001-v1"})
    PictureDataset(filepath=str(tmp_path / "a.png")).save(named)
    assert Image.open(tmp_path / "a.png").info == named.info


def test_a_folder_of_pictures_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    dataset = PictureFolderDataset(filepath=str(tmp_path / "digits"))
    old = {"a": picture(1), "b": picture(2)}
    dataset.save(old)
    with pytest.raises(DatasetError):
        dataset.save({"a": picture(3), "c": "no picture"})
    assert dataset.load() == old
    dataset.save({"c": picture(4)})
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["c.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
