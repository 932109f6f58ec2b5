"""The export of a trained model."""

import subprocess
import sys

import numpy as np
import pytest

from mnist_vae.data.models import KerasModelDataset
from mnist_vae.pipelines.export.nodes import export_models
from mnist_vae.vae import export
from tests.model_files import metadata_of, summary_of


@pytest.fixture
def summary(networks):
    return summary_of(networks, reconstruction="mse")


def test_the_files_name_their_model_and_plain_keras_loads_the_encoder(
    networks, summary, make_images, tmp_path
):
    images = make_images(20)
    encoder, *exported = export_models(*networks, summary, images)
    for model in exported:
        expected = {"model_version": summary["model_version"], "reconstruction": "mse"}
        assert metadata_of(model) == expected
    KerasModelDataset(filepath=str(tmp_path / "inference_encoder.keras")).save(encoder)
    np.save(tmp_path / "pixels.npy", images.model_input())
    script = """
import sys, keras, numpy as np
z_mean, z_log_var = keras.saving.load_model("inference_encoder.keras")(np.load("pixels.npy"))
assert not {name for name in sys.modules if name.startswith("mnist_vae")}
np.save("codes.npy", [z_mean, z_log_var])
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=300)
    z_mean, z_log_var, _ = networks[0](images.model_input())
    assert np.array_equal(np.load(tmp_path / "codes.npy"), [z_mean, z_log_var])


def test_a_file_that_differs_is_not_returned(networks, summary, make_images, monkeypatch):
    made = export.to_onnx

    def wrong(network, metadata):
        model = made(network, metadata)
        if network.name != "decoder":
            return model
        weight = model.graph.initializer[0]
        values = np.frombuffer(weight.raw_data, np.float32) * np.float32(1.001)
        weight.raw_data = values.tobytes()
        return model

    monkeypatch.setattr(export, "to_onnx", wrong)
    with pytest.raises(ValueError, match="The ONNX file of the decoder does not do what Keras"):
        export_models(*networks, summary, make_images(20))


def test_a_model_of_another_training_is_refused(networks, summary, make_images):
    summary["weights"]["decoder"] = "another"
    with pytest.raises(ValueError, match="The decoder does not belong to the training summary"):
        export_models(*networks, summary, make_images(20))
