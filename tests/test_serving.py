"""The model that MLflow loads and serves, of images of any size; a server is in `end_to_end/`."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mnist_vae import serving
from mnist_vae.data.images import embedding_names, new_image_set
from mnist_vae.data.tables import ImagesDataset
from mnist_vae.engines import embed
from mnist_vae.hooks.tracking import _connect, _register
from mnist_vae.jobs.release_files import Release
from mnist_vae.params import EmbeddingParams, ModelParams
from mnist_vae.recipe import new_networks
from mnist_vae.serving import EmbeddingModel
from tests.model_files import summary_of

IMAGES = np.random.default_rng(1).integers(0, 256, (7, 32, 20)).astype(np.uint8)
INPUT = IMAGES.reshape(7, 640) / np.float32(255)
PARAMS = EmbeddingParams(batch_size=3, refine_steps=3)


@pytest.fixture(scope="module")
def networks():
    return new_networks(ModelParams(hidden_units=(8,)), 1, 640)


@pytest.fixture(scope="module")
def release(networks, tmp_path_factory):
    """What the model reads of a release."""
    folder = tmp_path_factory.mktemp("release")
    for network in networks:
        network.save(folder / f"{network.name}.keras")
    ImagesDataset(filepath=str(folder / "test_images.parquet")).save(new_image_set(IMAGES))
    run = {
        "model_version": summary_of(networks)["model_version"],
        "parameters": {"embedding": PARAMS.model_dump(mode="json")},
        "seed": 42,
        "training": {"reconstruction": "binary_crossentropy"},
    }
    (folder / "run_manifest.json").write_text(json.dumps(run))
    return folder


def test_the_embeddings_are_those_of_the_pipeline_bit_for_bit(release, networks):
    summary = summary_of(networks, image_shape=[32, 20])
    expected = embed(*networks, summary, PARAMS, 42, IMAGES).to_pandas()
    expected = expected[[*embedding_names(2), "model_version"]]
    received = EmbeddingModel(release).embed(INPUT)
    pd.testing.assert_frame_equal(received, expected, check_exact=True)
    serving._load_pyfunc.cache_clear()
    for _ in range(2):
        in_a_worker = serving.encode(IMAGES.reshape(7, 640), str(release))
        pd.testing.assert_frame_equal(in_a_worker, expected, check_exact=True)
    assert serving._load_pyfunc.cache_info().misses == 1, "it loads the release once"


@pytest.mark.slow
def test_mlflow_loads_it_without_kedro_for_as_many_pixels_as_it_has(release, tmp_path, monkeypatch):
    """From a file of MLflow that has its artifacts next to it."""
    pytest.importorskip("mlflow", reason="the extra `mlflow` is needed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client, experiment = _connect(tmp_path, "sqlite:///data/mlflow.db", "mnist-vae")
    assert client.get_experiment(experiment).artifact_location == str(tmp_path / "data/artifacts")
    run = client.create_run(experiment).info.run_id
    _register(client, run, Release(release, {"model_version": "a"}))
    code = (
        "import sys; sys.modules['kedro'] = sys.modules['kedro_datasets'] = None\n"
        "import mlflow, numpy as np\n"
        "model = mlflow.pyfunc.load_model('models:/mnist-vae@champion')\n"
        "print(*(model.predict(np.zeros((n, 640), np.float32)).shape for n in (2, 0)))\n"
        "print(model.metadata.signature.inputs.inputs[0].shape)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/data/mlflow.db"},
        capture_output=True,
        text=True,
    )
    assert finished.stdout.splitlines() == ["(2, 7) (0, 7)", "(-1, 640)"], finished.stderr


@pytest.mark.slow  # MLflow is in another extra
@pytest.mark.parametrize(
    ("pixels", "received"),
    [
        (INPUT - 1, "from -1 to 0; divide bytes by 255"),
        (np.where(INPUT == 1, np.float32("nan"), INPUT), "from nan to nan"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(release, pixels, received):
    exceptions = pytest.importorskip("mlflow", reason="the extra `mlflow` is needed").exceptions
    words = rf"^The pixels .* expected values in \[0, 1\], received values {received}"
    with pytest.raises(exceptions.MlflowException, match=words):
        EmbeddingModel(release).predict(pixels)
