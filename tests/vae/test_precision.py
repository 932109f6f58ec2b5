"""Training in bfloat16: what computes in it, what does not, and where it is refused."""

import keras
import numpy as np
import pytest

from mnist_vae.vae import precision
from mnist_vae.vae.model import Objective, VariationalAutoencoder
from mnist_vae.vae.networks import build_decoder, build_encoder
from mnist_vae.vae.precision import PrecisionError, check_precision, computing_in
from mnist_vae.vae.training import TrainingConfig, TrainingFailedError, fit
from tests.vae.test_training import PARAMS

CONFIG = PARAMS | {"epochs": 3}


@pytest.fixture
def able(monkeypatch):
    """A processor that can, by emulation if need be."""
    monkeypatch.setattr(precision, "_cpu_flags", lambda: {"avx512_bf16"})


def new_vae(**objective):
    return VariationalAutoencoder(
        build_encoder(hidden_units=(32, 16), seed=1),
        build_decoder(hidden_units=(32, 16), seed=1),
        objective=Objective(**objective),
        seed=1,
    )


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    return (random.random((48, 784)) < random.random(784)).astype("float32")


def policies(vae):
    return {
        layer.dtype_policy.name for model in (vae.encoder, vae.decoder) for layer in model.layers
    }


@pytest.mark.parametrize("refine_steps", [0, 2])
def test_it_trains_as_float32_does_and_leaves_float32_networks(
    images, able, refine_steps, tmp_path
):
    losses = {}
    for name in ("float32", "bfloat16"):
        vae = new_vae(refine_steps=refine_steps)
        run = fit(vae, images, images, TrainingConfig(**CONFIG, precision=name))
        losses[name] = run.history["loss"]
        assert {weight.dtype for weight in vae.trainable_variables} == {"float32"}
        assert policies(vae) == {"float32"}
        vae.decoder.save(tmp_path / f"{name}.keras")
        assert keras.saving.load_model(tmp_path / f"{name}.keras").compute_dtype == "float32"
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["bfloat16"] != losses["float32"]


def test_the_networks_are_float32_also_when_training_failed(images, able):
    vae = new_vae()
    with pytest.raises(TrainingFailedError):
        fit(vae, images * np.nan, images, TrainingConfig(**CONFIG, precision="bfloat16"))
    assert policies(vae) == {"float32"}


def test_what_makes_the_code_and_what_takes_it_compute_in_float32(images):
    vae = new_vae()
    z = np.array([[1.0, 1.001]], "float32")  # one and the same number in bfloat16
    before = vae.decoder.get_layer("hidden_1")(z).numpy()
    with computing_in("bfloat16", vae.encoder, vae.decoder):
        z_mean, z_log_var, drawn = vae.encoder(images)
        assert {part.dtype.name for part in (z_mean, z_log_var, drawn)} == {"float32"}
        np.testing.assert_array_equal(vae.decoder.get_layer("hidden_1")(z), before)
        assert vae.decoder.get_layer("logits").compute_dtype == "bfloat16"
        assert vae(images, training=True).reconstruction.dtype.name == "float32"


def test_a_processor_without_bfloat16_is_told_to_take_float32(monkeypatch):
    monkeypatch.setattr(precision, "_cpu_flags", lambda: {"avx2", "fma"})
    with pytest.raises(
        PrecisionError, match="would be slower here: expected a GPU, or a processor"
    ):
        check_precision("bfloat16", jit_compile=False)
    check_precision("float32", jit_compile=True)


def test_beside_xla_on_a_processor_it_is_refused(able, images):
    check_precision("bfloat16", jit_compile=False)
    with pytest.raises(PrecisionError, match=r"expected `training.jit_compile` to be false"):
        fit(
            new_vae(),
            images,
            images,
            TrainingConfig(**CONFIG | {"jit_compile": True}, precision="bfloat16"),
        )


def test_a_machine_that_does_not_tell_what_it_can_do_is_taken_for_one_that_cannot(monkeypatch):
    monkeypatch.setattr(precision.Path, "read_text", raise_os_error)
    with pytest.raises(PrecisionError, match="instructions"):
        check_precision("bfloat16", jit_compile=False)


def raise_os_error(path):
    raise OSError("no such file")
