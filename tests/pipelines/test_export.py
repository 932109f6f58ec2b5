"""The export of a trained model; `tests/vae/test_networks.py` has what each file does."""

import numpy as np

from mnist_vae.pipelines.export.nodes import export_models
from mnist_vae.vae import export


def test_the_files_name_their_model_and_are_compared(networks, splits, summary, monkeypatch):
    check, checked = export.check_onnx, []

    def noted(exported, network, inputs):
        checked.append((exported.graph.name, len(inputs)))
        return check(exported, network, inputs)

    monkeypatch.setattr(export, "check_onnx", noted)
    plain, *exported = export_models(*networks, {**summary, "reconstruction": "mse"}, splits[0])
    assert checked == [("encoder", 60), ("decoder", 60)]
    for model in exported:
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert metadata == {"model_version": summary["model_version"], "reconstruction": "mse"}
    pixels = splits[0].model_input()
    for received, expected in zip(plain(pixels), networks[0](pixels)[:2], strict=True):
        assert np.array_equal(received, expected)
