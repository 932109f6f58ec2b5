"""Records at rest."""

import json

import pytest
from kedro.io.core import DatasetError

from mnist_vae.data.records import RecordDataset
from mnist_vae.jobs.records import BatchRecord, Drift, Intake


@pytest.fixture
def dataset(tmp_path):
    return RecordDataset(
        record="mnist_vae.jobs.records.Intake", filepath=str(tmp_path / "intake.json")
    )


def test_a_record_comes_back_as_it_was(dataset):
    drift = Drift(
        drifted=True, effect=0.2, p_value=0.0, distances={"negative_elbo": 0.2}, negative_elbo=1.0
    )
    intake = Intake(batches={"a": BatchRecord(outcome="accepted", images=3, drift=drift)})
    dataset.save(intake)
    assert dataset.load() == intake


def test_another_record_is_refused_and_the_file_stays(dataset):
    dataset.save(Intake())
    with pytest.raises(DatasetError, match="takes a record Intake: received a BatchRecord"):
        dataset.save(BatchRecord(outcome="accepted"))
    assert dataset.load() == Intake()


def test_a_file_of_another_version_says_what_to_do(dataset, tmp_path):
    (tmp_path / "intake.json").write_text('{"other": 1}')
    with pytest.raises(DatasetError, match="delete the file and run the pipeline again"):
        dataset.load()


def test_an_optional_record_is_none_where_there_is_no_file(tmp_path):
    config = {"record": "mnist_vae.jobs.records.Intake", "filepath": f"{tmp_path}/a.json"}
    optional = RecordDataset(**config, optional=True)
    assert optional.load() is None
    assert not optional.exists()  # so that `--only-missing-outputs` makes it
    RecordDataset(**config).save(Intake())
    assert optional.load() == Intake()


def test_kedro_viz_shows_a_record(dataset):
    assert str(dataset.preview()) == "{}", "before the first run there is none"
    dataset.save(Intake(batches={"a": BatchRecord(outcome="accepted", images=3)}))
    assert json.loads(str(dataset.preview()))["batches"]["a"]["images"] == 3
