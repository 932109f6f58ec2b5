"""The export of a trained model."""

import zipfile

import keras
import numpy as np

from mnist_vae.data.models import KerasModelDataset
from mnist_vae.pipelines.export.nodes import export_models
from mnist_vae.vae import export
from tests.model_files import metadata_of, summary_of
from tests.vae.models import small


def test_the_files_name_their_model_and_plain_keras_loads_the_encoder(
    make_images, tmp_path, monkeypatch
):
    check, checked = export.check_onnx, []

    def noted(exported, network, inputs):
        checked.append((exported.graph.name, len(inputs)))
        return check(exported, network, inputs)

    monkeypatch.setattr(export, "check_onnx", noted)
    networks, images = small(), make_images(20)
    summary = summary_of(networks, reconstruction="mse")
    encoder, *exported = export_models(*networks, summary, images)
    assert checked == [("encoder", 20), ("decoder", 20)], "every file is compared with Keras"
    for model in exported:
        expected = {"model_version": summary["model_version"], "reconstruction": "mse"}
        assert metadata_of(model) == expected
    path = tmp_path / "inference_encoder.keras"
    KerasModelDataset(filepath=str(path)).save(encoder)
    with zipfile.ZipFile(path) as archive:
        assert b"mnist_vae" not in archive.read("config.json"), "no layer of this package"
    codes = keras.saving.load_model(path)(images.model_input())
    for received, expected in zip(codes, networks[0](images.model_input())[:2], strict=True):
        assert np.array_equal(received, expected)
