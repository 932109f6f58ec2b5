"""The model that MLflow serves, without MLflow; with it in `end_to_end/`."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mnist_vae import serving
from mnist_vae.data.images import embedding_names
from mnist_vae.params import EmbeddingParams
from mnist_vae.pipelines.embedding.nodes import embed_new_images
from mnist_vae.serving import EmbeddingModel

PIXELS = np.random.default_rng(1).integers(0, 256, (7, 28, 28)).astype(np.uint8)
INPUT = PIXELS.reshape(7, 784) / np.float32(255)


@pytest.fixture(scope="module")
def release(finished_catalog, tmp_path_factory):
    """What the model reads of a release, whose run embedded three images at a time."""
    folder = tmp_path_factory.mktemp("release")
    for name in ("encoder", "decoder"):
        finished_catalog.load(name).save(folder / f"{name}.keras")
    manifest = finished_catalog.load("run_manifest")
    manifest["parameters"]["embedding"]["batch_size"] = 3
    (folder / "run_manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize("steps", [0, 3])
def test_the_embeddings_are_those_of_the_pipeline_bit_for_bit(
    release, finished_catalog, tmp_path, steps
):
    copy = shutil.copytree(release, tmp_path / "release")
    manifest = json.loads((copy / "run_manifest.json").read_text())
    manifest["parameters"]["embedding"]["refine_steps"] = steps
    (copy / "run_manifest.json").write_text(json.dumps(manifest))
    received = EmbeddingModel(copy).embed(INPUT)
    expected = embed_new_images(
        finished_catalog.load("encoder"),
        finished_catalog.load("decoder"),
        PIXELS,
        finished_catalog.load("training_summary"),
        EmbeddingParams(batch_size=3, refine_steps=steps),
        manifest["seed"],
    ).to_pandas()
    expected = expected[[*embedding_names(2), "model_version"]]
    pd.testing.assert_frame_equal(received, expected, check_exact=True)


def test_a_worker_of_an_engine_gets_the_same_and_loads_the_release_once(release, monkeypatch):
    expected = EmbeddingModel(release).embed(INPUT)
    loads = []

    def counted(folder):
        loads.append(folder)
        return EmbeddingModel(folder)

    serving._load_pyfunc.cache_clear()
    monkeypatch.setattr(serving, "EmbeddingModel", counted)
    for _ in range(2):
        received = serving.encode(PIXELS.reshape(7, 784), str(release))
        pd.testing.assert_frame_equal(received, expected, check_exact=True)
    assert loads == [release]


@pytest.mark.slow
def test_it_needs_nothing_of_kedro_and_no_images_are_no_rows(release):
    code = (
        "import sys; sys.modules['kedro'] = sys.modules['kedro_datasets'] = None\n"
        "import numpy as np\n"
        "from mnist_vae.serving import _load_pyfunc\n"
        "model = _load_pyfunc(sys.argv[1])\n"
        "print(*(model.embed(np.zeros((n, 784), np.float32)).shape for n in (2, 0)))"
    )
    finished = subprocess.run([sys.executable, "-c", code, release], capture_output=True, text=True)
    assert finished.stdout.splitlines() == ["(2, 7) (0, 7)"], finished.stderr


@pytest.mark.parametrize(
    ("pixels", "received"),
    [
        (INPUT * 255, "from 0 to 255; divide bytes by 255"),
        (INPUT - 1, "from -1 to 0;"),
        (np.where(INPUT == 1, np.float32("nan"), INPUT), "from nan to nan"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(release, pixels, received):
    words = rf"^The pixels .* expected values in \[0, 1\], received values {received}"
    with pytest.raises(ValueError, match=words):
        EmbeddingModel(release).embed(pixels)
