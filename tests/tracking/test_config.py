import pytest

from mnist_vae.tracking.config import TrackingConfigError, read_config

FILE = {"tracking_uri": "sqlite:///data/mlflow.db", "artifact_location": "data/artifacts"}


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_paths_are_those_of_the_project(tmp_path):
    config = read_config(FILE, tmp_path)
    assert config.tracking_uri == f"sqlite:///{tmp_path}/data/mlflow.db"
    assert config.database == tmp_path / "data/mlflow.db"
    assert config.artifact_location == f"{tmp_path}/data/artifacts"
    assert config.experiment == "mnist-vae"


def test_an_absolute_path_and_a_bucket_stay_as_they_are(tmp_path):
    raw = {"tracking_uri": "sqlite:////srv/mlflow.db", "artifact_location": "s3://bucket/mlflow"}
    config = read_config(raw, tmp_path)
    assert (config.tracking_uri, config.artifact_location) == tuple(raw.values())


def test_the_environment_goes_before_the_file_and_a_server_keeps_its_artifacts(
    monkeypatch, tmp_path
):
    in_file = read_config(FILE | {"tracking_uri": "http://127.0.0.1:5000"}, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    for config in (in_file, read_config(FILE, tmp_path)):
        assert config.tracking_uri == "http://127.0.0.1:5000"
        assert config.artifact_location is config.database is None


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (
            FILE | {"server": {}},
            "Entry `server` of mlflow.yml is unknown: allowed are tracking_uri",
        ),
        ({}, "Entry `tracking_uri` of mlflow.yml is missing: expected it in that file"),
        (FILE | {"experiment": 5}, "Entry `experiment` of mlflow.yml is wrong: .*, received 5"),
    ],
)
def test_a_wrong_entry_is_refused_in_one_sentence(raw, sentence, tmp_path):
    with pytest.raises(TrackingConfigError, match=f"^{sentence}.*; correct conf/.*/mlflow.yml.$"):
        read_config(raw, tmp_path)
