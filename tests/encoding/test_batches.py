"""What an image's row becomes depends on that row alone, wherever it is encoded."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_vae.data.keras_model import KerasModelDataset
from mnist_vae.encoding import batches as encoding
from mnist_vae.encoding.anomalies import Calibration, batches_of_terms, score_of
from mnist_vae.encoding.batches import (
    BatchEncoder,
    Encoding,
    EngineError,
    encode,
    identity_of,
    save_models,
)
from mnist_vae.encoding.engines import scratch_folder

N = 40


@pytest.fixture
def batch(work):
    noise = np.random.default_rng(1).standard_normal((N, 2), np.float32)
    return work.splits[0].pixels[:N], noise


@pytest.fixture
def models(work, tmp_path):
    save_models(str(tmp_path), *work.networks)
    return str(tmp_path)


def how(**more):
    given = {
        "reconstruction": "binary_crossentropy",
        "refine_steps": 0,
        "seed": 1,
    }
    return Encoding(**{**given, **more})


def calibration(work):
    return Calibration(
        model_version=work.summary["model_version"],
        reconstruction="binary_crossentropy",
        score="excess",
        false_positive_rate=0.05,
        threshold=130.0,
        n_validation=10,
        entropy_cap=100.0,
        latent_means=((0.0, 0.0),),
        latent_precision=((1.0, 0.0), (0.0, 1.0)),
    )


def parts_of(batch, size=7):
    return [tuple(part[start : start + size] for part in batch) for start in range(0, N, size)]


def assert_close(one, other, rtol):
    assert list(one) == list(other)
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], rtol=rtol, atol=1e-6)


@pytest.mark.parametrize(("steps", "calibrated"), [(0, False), (3, True)])
def test_however_the_images_are_cut_they_become_the_same(work, batch, models, steps, calibrated):
    given = how(
        refine_steps=steps, calibration=calibration(work) if calibrated else None, threads=1
    )
    (whole,) = encode([batch], models, given, identity_of(models))
    parts = encode(parts_of(batch), models, given, identity_of(models))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in whole}
    assert_close(joined, whole, rtol=1e-5)
    assert_close(BatchEncoder(*work.networks, given)(*batch), whole, rtol=1e-6)


def test_the_scores_of_anomalies_are_those_of_the_encoder_itself_refined_or_not(
    work, batch, models
):
    images, threshold = work.splits[0].take(slice(N)), calibration(work)
    (of,) = batches_of_terms(*work.networks, images, "binary_crossentropy", 1)
    expected = score_of(threshold, *of)
    for steps in (0, 3):
        given = how(refine_steps=steps, calibration=threshold)
        (result,) = encode([batch], models, given, identity_of(models))
        np.testing.assert_allclose(result["anomaly_score"], expected, rtol=1e-5)
        flags = result["anomaly_score"] > threshold.threshold
        np.testing.assert_array_equal(result["is_anomaly"], flags)


def test_a_process_loads_the_models_once(work, batch, models, monkeypatch):
    load, loads = KerasModelDataset.load, []

    def counted(self):
        loads.append(self)
        return load(self)

    monkeypatch.setattr(KerasModelDataset, "load", counted)
    for part in parts_of(batch):
        encode([part], models, how(), identity_of(models))
    assert len(loads) == 2, "the encoder and the decoder"


def test_models_that_a_worker_cannot_read_are_said_in_one_sentence(work, batch, models, tmp_path):
    with pytest.raises(EngineError, match=r"^A worker cannot read the model: .*embedding.scratch"):
        encode([batch], str(tmp_path / "elsewhere"), how(), identity_of(models))


@pytest.mark.parametrize("name", ["code", "libraries", "model"])
def test_a_process_with_another_identity_than_the_run_encodes_nothing(
    work, batch, models, name, monkeypatch
):
    monkeypatch.setattr(encoding, "BatchEncoder", None)
    expected = identity_of(models)._replace(**{name: "another"})
    message = rf"^A worker on .*: expected its {name} another, received {name} .+; install"
    with pytest.raises(EngineError, match=message):
        encode([batch], models, how(), expected)


def test_the_identity_of_models_follows_from_both_files(work, models):
    before = identity_of(models)
    for path in (Path(models) / "encoder.keras", Path(models) / "decoder.keras"):
        whole = path.read_bytes()
        path.write_bytes(whole + b"more")
        assert identity_of(models) == before._replace(model=identity_of(models).model) != before
        path.write_bytes(whole)
    assert identity_of(models) == before


def test_the_scratch_folder_is_removed_however_the_work_ends(tmp_path):
    def fail():
        with scratch_folder(str(tmp_path)) as folder:
            assert Path(folder).parent == tmp_path
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_the_scratch_folder_may_be_a_url():
    import fsspec

    with scratch_folder("memory://scratch") as folder:
        assert folder.startswith("memory://")
        assert fsspec.filesystem("memory").exists(folder)
    assert not fsspec.filesystem("memory").exists(folder)


DEFAULT_PATH = """
import sys
import mnist_vae.encoding.engines, mnist_vae.encoding.batches, mnist_vae.encoding.embeddings
assert not {"tensorflow", "keras"} & set(sys.modules), "before anything is encoded"
import numpy as np
from mnist_vae.encoding.embeddings import embed, new_image_set
from mnist_vae.data.fingerprints import fingerprint
from mnist_vae.params import EmbeddingParams
from mnist_vae.vae.networks import build_decoder, build_encoder
networks = [build(hidden_units=(4,), seed=1) for build in (build_encoder, build_decoder)]
summary = {
    "model_version": "v",
    "weights": {model.name: fingerprint(model) for model in networks},
    "reconstruction": "binary_crossentropy",
}
images = new_image_set(np.zeros((3, 28, 28), np.uint8))
table = embed(*networks, [images], summary, EmbeddingParams(), 1)
assert len(table) == 3
engines = {"dask", "distributed"} & set(sys.modules)
assert not engines, engines
"""


def test_the_default_path_imports_no_engine_and_no_tensorflow_before_it_encodes():
    finished = subprocess.run(
        [sys.executable, "-c", DEFAULT_PATH], capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
