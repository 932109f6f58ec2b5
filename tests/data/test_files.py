"""Data sets of one file: what was saved comes back, and only a whole folder is replaced."""

import numpy as np
import pytest
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


def picture(shade: int, **texts: str) -> Image.Image:
    made = Image.fromarray(np.full((28, 28), shade, np.uint8))
    made.info.update(texts)
    return made


@pytest.mark.parametrize("place", ["{}", "memory:/{}"], ids=["disk", "another file system"])
@pytest.mark.parametrize(
    ("of", "options", "data"),
    [
        (JSONDataset, {}, {"a": [1, None]}),
        (TextDataset, {}, "| −ELBO | 1 |"),
        (PictureDataset, {}, picture(7, model_version="v1", release="000001-v1")),
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
