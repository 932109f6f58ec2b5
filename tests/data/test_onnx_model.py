"""ONNX models in the catalog."""

import pytest
from kedro.io.core import DatasetError

from mnist_vae.data.onnx_model import OnnxModelDataset, metadata_of


@pytest.fixture
def decoder():
    from mnist_vae.vae.export import to_onnx
    from mnist_vae.vae.networks import build_decoder

    return to_onnx(build_decoder(latent_dim=3, seed=1), {"model_version": "abc"})


@pytest.fixture
def dataset(tmp_path):
    return OnnxModelDataset(filepath=str(tmp_path / "decoder.onnx"))


def test_what_was_saved_is_loaded(dataset, decoder):
    dataset.save(decoder)
    assert dataset.load() == decoder
    assert metadata_of(dataset.load()) == {"model_version": "abc"}


def test_a_save_that_fails_leaves_the_old_file(dataset, decoder, tmp_path):
    dataset.save(decoder)
    with pytest.raises(DatasetError):
        dataset.save("no model")
    assert [path.name for path in tmp_path.iterdir()] == ["decoder.onnx"]
    assert dataset.load() == decoder


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04" + bytes(100)])
def test_another_file_is_refused_in_one_sentence(dataset, tmp_path, content):
    (tmp_path / "decoder.onnx").write_bytes(content)
    with pytest.raises(DatasetError, match=r"holds no ONNX model.*pipelines export` again"):
        dataset.load()


def test_a_missing_file_is_said_with_what_makes_it(dataset):
    with pytest.raises(DatasetError, match=r"received nothing; run `kedro run --pipelines export`"):
        dataset.load()


def test_the_preview_shows_operators_and_sizes(dataset, decoder):
    dataset.save(decoder)
    lines = dataset.preview().splitlines()
    assert lines[1] == 'title: "decoder, ONNX opset 20"'
    assert '    z["z<br/>float32, 3"]' in lines
    assert '    logits["logits<br/>Gemm 512 × 784"]' in lines
    assert "    logits --> pixels_mean" in lines
