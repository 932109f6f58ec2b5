"""Which versions there are, with a client that notes them; a real server is in `end_to_end/`."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mnist_vae.data.image_table import ImagesDataset
from mnist_vae.jobs.release_files import Release
from mnist_vae.tracking import registry


class Client:
    def __init__(self, versions=()):
        self.versions, self.models, self.uploads, self.alias = list(versions), [], [], None

    def search_registered_models(self, _):
        return self.models

    def create_registered_model(self, name):
        self.models.append(name)

    def search_model_versions(self, expression):
        wanted = [part.split(" = ") for part in expression.split(" and ")]
        tags = {key.removeprefix("tags."): value.strip("'") for key, value in wanted}
        del tags["name"]
        return [each for each in self.versions if tags.items() <= each.tags.items()]

    def log_artifacts(self, _, folder, path):
        assert json.loads((Path(folder) / "MLmodel").read_text())
        self.uploads.append(path)

    def get_run(self, run_id):
        return SimpleNamespace(info=SimpleNamespace(artifact_uri=f"mlflow-artifacts:/{run_id}"))

    def create_model_version(self, _, source, run_id, tags):
        number = str(len(self.versions) + 1)
        made = SimpleNamespace(version=number, source=source, run_id=run_id, tags=tags)
        self.versions.append(made)
        return made

    def set_registered_model_alias(self, _, alias, version):
        assert alias == "champion"
        self.alias = version


@pytest.fixture(autouse=True)
def _saved(monkeypatch):
    def save(release, folder):
        folder.mkdir()
        (folder / "MLmodel").write_text(json.dumps(release.name))

    monkeypatch.setattr(registry, "save", save)


def release_of(name):
    return Release(Path(name), {"model_version": name[-1]})


def test_a_new_release_is_registered_once_and_the_alias_follows():
    client = Client()
    for name in ("000001-a", "000002-b", "000001-a"):
        registry.follow(client, "run", release_of(name))
    assert client.uploads == ["releases/000001-a", "releases/000002-b"]
    assert client.versions[1].source == "mlflow-artifacts:/run/releases/000002-b"
    assert client.versions[1].tags == {"release": "000002-b", "model_version": "b"}
    assert client.alias == "1"


def test_the_example_is_of_the_test_split(tmp_path, make_images):
    images = make_images(6, "test", first_id=10)
    ImagesDataset(filepath=str(tmp_path / "test_images.parquet")).save(images)
    example = registry._example(Release(tmp_path, {}))
    assert example.dtype == np.float32
    np.testing.assert_array_equal(example, images.pixels[:4])
