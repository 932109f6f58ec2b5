"""What an image's row becomes depends on that row alone, wherever it is encoded."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mnist_vae.data.keras_model import KerasModelDataset
from mnist_vae.encoding import batches as encoding
from mnist_vae.encoding.anomalies import Calibration, batches_of_terms, score_of
from mnist_vae.encoding.batches import (
    BatchEncoder,
    Encoding,
    EngineError,
    encode,
    grouped,
    identity_of,
    image_rows,
    save_models,
)
from mnist_vae.encoding.engines import scratch_folder

N = 40


@pytest.fixture
def rows(work):
    images = work.splits[0].take(slice(N))
    (batch,) = image_rows(images, N, latent_dim=2, seed=1, labelled=True)
    return batch


@pytest.fixture
def models(work, tmp_path):
    save_models(str(tmp_path), *work.networks)
    return str(tmp_path)


def how(work, **more):
    given = {
        "model_version": work.summary["model_version"],
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


def floats(batch):
    names = [name for name in batch.schema.names if batch.schema.field(name).type == pa.float32()]
    return np.stack([batch.column(name).to_numpy() for name in names])


@pytest.mark.parametrize(("steps", "calibrated"), [(0, False), (3, True)])
def test_however_the_rows_are_cut_they_become_the_same(work, rows, models, steps, calibrated):
    given = how(
        work, refine_steps=steps, calibration=calibration(work) if calibrated else None, threads=1
    )
    (whole,) = encode([rows], models, given, identity_of(models))
    cut = [rows.slice(start, 7) for start in range(0, N, 7)]
    parts = encode(cut, models, given, identity_of(models))
    (joined,) = pa.Table.from_batches(parts).combine_chunks().to_batches()
    assert joined.column("image_id").equals(whole.column("image_id"))
    np.testing.assert_allclose(floats(joined), floats(whole), rtol=1e-5, atol=1e-6)
    loaded = BatchEncoder(*work.networks, given)(rows)
    assert loaded.schema == whole.schema
    np.testing.assert_allclose(floats(loaded), floats(whole), rtol=1e-6, atol=1e-6)


def test_other_columns_go_through_as_they_are_and_those_of_the_pixels_are_gone(work, rows, models):
    more = rows.append_column("where", pa.array([f"file {row}" for row in range(N)]))
    (result,) = encode([more], models, how(work), identity_of(models))
    assert result.schema.names == [
        "image_id",
        "split",
        "label",
        "where",
        "z_mean_00",
        "z_mean_01",
        "z_log_var_00",
        "z_log_var_01",
        "reconstruction",
        "kl",
        "model_version",
    ]
    for name in ("image_id", "split", "label", "where"):
        assert result.column(name).equals(more.column(name))


def test_the_scores_of_anomalies_are_those_of_the_encoder_itself_refined_or_not(work, rows, models):
    images, threshold = work.splits[0].take(slice(N)), calibration(work)
    (of,) = batches_of_terms(*work.networks, images, "binary_crossentropy", 1)
    expected = score_of(threshold, *of)
    for steps in (0, 3):
        given = how(work, refine_steps=steps, calibration=threshold)
        (result,) = encode([rows], models, given, identity_of(models))
        scores = result.column("anomaly_score").to_numpy()
        np.testing.assert_allclose(scores, expected, rtol=1e-5)
        flags = result.column("is_anomaly").to_numpy(zero_copy_only=False)
        np.testing.assert_array_equal(flags, scores > threshold.threshold)


def test_a_process_loads_the_models_once(work, rows, models, monkeypatch):
    load, loads = KerasModelDataset.load, []

    def counted(self):
        loads.append(self)
        return load(self)

    monkeypatch.setattr(KerasModelDataset, "load", counted)
    for start in range(0, N, 7):
        encode([rows.slice(start, 7)], models, how(work), identity_of(models))
    assert len(loads) == 2, "the encoder and the decoder"


def test_models_that_a_worker_cannot_read_are_said_in_one_sentence(work, rows, models, tmp_path):
    with pytest.raises(EngineError, match=r"^A worker cannot read the model: .*embedding.scratch"):
        encode([rows], str(tmp_path / "elsewhere"), how(work), identity_of(models))


@pytest.mark.parametrize("name", ["code", "libraries", "model"])
def test_a_process_with_another_identity_than_the_run_encodes_nothing(
    work, rows, models, name, monkeypatch
):
    monkeypatch.setattr(encoding, "BatchEncoder", None)
    expected = identity_of(models)._replace(**{name: "another"})
    message = rf"^A worker on .*: expected its {name} another, received {name} [\w ,.]+; install"
    with pytest.raises(EngineError, match=message):
        encode([rows], models, how(work), expected)


def test_the_identity_of_models_follows_from_both_files(work, models):
    before = identity_of(models)
    for path in (Path(models) / "encoder.keras", Path(models) / "decoder.keras"):
        whole = path.read_bytes()
        path.write_bytes(whole + b"more")
        assert identity_of(models) == before._replace(model=identity_of(models).model) != before
        path.write_bytes(whole)
    assert identity_of(models) == before


@pytest.mark.parametrize("size", [1, 8, 16, 1000])
def test_groups_have_whole_batches_in_order_and_no_more_rows_than_asked(size):
    batches = [pa.record_batch({"a": list(range(8))}) for _ in range(5)]
    groups = list(grouped(iter(batches), size))
    assert [batch for group in groups for batch in group] == batches
    assert all(len(group) == 1 or sum(map(len, group)) <= size for group in groups)
    assert list(grouped(iter([]), size)) == []


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
table = embed(*networks, [images], summary, EmbeddingParams(), 1).read_all()
assert len(table) == 3
engines = {"dask", "distributed"} & set(sys.modules)
assert not engines, engines
"""


def test_the_default_path_imports_no_engine_and_no_tensorflow_before_it_encodes():
    finished = subprocess.run(
        [sys.executable, "-c", DEFAULT_PATH], capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
