"""Keras and ONNX models in the catalog."""

import subprocess
import sys

import numpy as np
import pytest
from kedro.io.core import DatasetError

from mnist_vae.data.models import KerasModelDataset, OnnxModelDataset
from tests.model_files import metadata_of


@pytest.fixture(scope="module")
def encoder():
    from mnist_vae.vae.networks import build_encoder

    return build_encoder(latent_dim=3, seed=1)


def test_a_saved_encoder_loads_in_a_fresh_process_with_safe_mode_on(tmp_path, encoder):
    path = str(tmp_path / "encoder.keras")
    KerasModelDataset(filepath=path).save(encoder)
    pixels = np.random.default_rng(0).random((4, 784)).astype("float32")
    np.save(tmp_path / "pixels.npy", pixels)
    script = f"""
import numpy as np
from mnist_vae.data.models import KerasModelDataset
model = KerasModelDataset(filepath={path!r}).load()
z_mean, z_log_var, z = model(np.load({str(tmp_path / "pixels.npy")!r}))
np.save({str(tmp_path / "z_mean.npy")!r}, z_mean)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
    assert np.array_equal(np.load(tmp_path / "z_mean.npy"), encoder(pixels)[0].numpy())


def test_code_in_a_model_file_is_not_run(tmp_path):
    import keras

    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs), name="evil")
    dataset = KerasModelDataset(filepath=str(tmp_path / "evil.keras"))
    dataset.save(model)
    with pytest.raises(DatasetError, match=r"unsafe|safe_mode"):
        dataset.load()


def test_the_preview_shows_layers_shapes_and_counts(tmp_path, encoder):
    dataset = KerasModelDataset(filepath=str(tmp_path / "encoder.keras"))
    dataset.save(encoder)
    chart = dataset.preview()
    assert chart.splitlines()[3] == "flowchart TD"
    assert "hidden_1<br/>Dense 784 → 512 relu<br/>401,920 parameters" in chart
    assert "z_log_var<br/>Dense 256 → 3<br/>771 parameters" in chart
    for arrow in ("pixels --> hidden_1", "hidden_2 --> z_mean", "z_mean --> z", "z_log_var --> z"):
        assert f"    {arrow}" in chart.splitlines()
    assert f'title: "encoder: {534_276 + 2 * 257:,} parameters"' in chart


def test_the_preview_of_a_decoder_shows_its_logits_and_their_sigmoid(tmp_path):
    from mnist_vae.vae.networks import build_decoder

    dataset = KerasModelDataset(filepath=str(tmp_path / "decoder.keras"))
    dataset.save(build_decoder(seed=1))
    chart = dataset.preview().splitlines()
    assert '    logits["logits<br/>Dense 512 → 784<br/>402,192 parameters"]' in chart
    assert '    pixels_mean["pixels_mean<br/>Activation sigmoid"]' in chart
    assert "    logits --> pixels_mean" in chart


def test_a_failed_save_leaves_the_old_model(tmp_path, encoder, monkeypatch):
    dataset = KerasModelDataset(filepath=str(tmp_path / "encoder.keras"))
    dataset.save(encoder)
    old = (tmp_path / "encoder.keras").read_bytes()
    monkeypatch.setattr(dataset._fs, "put", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(DatasetError, match="disk full"):
        dataset.save(encoder)
    assert (tmp_path / "encoder.keras").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.keras"]


def test_a_model_that_was_not_saved_does_not_exist(tmp_path):
    dataset = KerasModelDataset(filepath=str(tmp_path / "encoder.keras"))
    assert not dataset.exists()
    dataset.release()
    assert "encoder.keras" in str(dataset)


# ONNX


@pytest.fixture
def decoder():
    from mnist_vae.vae.export import to_onnx
    from mnist_vae.vae.networks import build_decoder

    return to_onnx(build_decoder(latent_dim=3, seed=1), {"model_version": "abc"})


@pytest.fixture
def onnx(tmp_path):
    return OnnxModelDataset(filepath=str(tmp_path / "decoder.onnx"))


def test_what_was_saved_is_loaded(onnx, decoder):
    onnx.save(decoder)
    assert onnx.load() == decoder
    assert metadata_of(onnx.load()) == {"model_version": "abc"}


def test_a_save_that_fails_leaves_the_old_file(onnx, decoder, tmp_path):
    onnx.save(decoder)
    with pytest.raises(DatasetError):
        onnx.save("no model")
    assert [path.name for path in tmp_path.iterdir()] == ["decoder.onnx"]
    assert onnx.load() == decoder


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04" + bytes(100)])
def test_another_file_is_refused_in_one_sentence(onnx, tmp_path, content):
    (tmp_path / "decoder.onnx").write_bytes(content)
    with pytest.raises(DatasetError, match=r"holds no ONNX model.*pipelines export` again"):
        onnx.load()


def test_a_missing_file_is_said_with_what_makes_it(onnx):
    with pytest.raises(DatasetError, match=r"received nothing; run `kedro run --pipelines export`"):
        onnx.load()
