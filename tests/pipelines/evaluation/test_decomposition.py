"""Where −ELBO goes."""

import logging

import numpy as np
import pytest

from mnist_vae.params import EvaluationParams
from mnist_vae.pipelines.evaluation.decomposition import decompose
from mnist_vae.vae.networks import build_decoder, build_encoder

PARAMS = EvaluationParams(thorough=True, refine_steps=20, importance_samples=200, z_samples=5)


def networks(latent_dim):
    decoder = build_decoder(latent_dim=latent_dim, hidden_units=(32, 16), seed=1)
    logits = decoder.get_layer("logits")
    logits.set_weights([4 * weight for weight in logits.get_weights()])
    return build_encoder(latent_dim=latent_dim, hidden_units=(32, 16), seed=1), decoder


def images_of(decoder, n=20):
    z = np.random.default_rng(0).standard_normal((n, decoder.input_shape[-1]))
    return np.asarray(decoder(z.astype(np.float32)))


@pytest.mark.parametrize(
    ("latent_dim", "how"), [(1, "exact"), (3, "importance-weighted bound, 200 draws")]
)
def test_minus_elbo_is_the_likelihood_and_two_gaps(latent_dim, how):
    encoder, decoder = networks(latent_dim)
    (parts,) = decompose(
        encoder, decoder, {"some": images_of(decoder)}, "binary_crossentropy", PARAMS, seed=1
    ).values()
    assert parts["likelihood"] == how
    assert parts["n_images"] == 20
    assert parts["negative_elbo"] == pytest.approx(
        parts["negative_log_likelihood"] + parts["approximation"] + parts["amortisation"]
    )
    assert (
        parts["negative_elbo"]
        > parts["refined_negative_elbo"]
        > parts["negative_log_likelihood"] - 0.05
    )
    assert (parts["quadrature_error"] is None) == (latent_dim > 2)
    assert 0.1 <= parts["worst_tenth"] <= 1
    assert 0 <= parts["misplaced"] <= 1


@pytest.mark.parametrize("latent_dim", [1, 3])
def test_a_set_has_the_figures_that_it_has_alone(latent_dim):
    encoder, decoder = networks(latent_dim)
    images = images_of(decoder, 25)
    sets = {"some": images[:10], "none like them": 1 - images[10:12], "others": images[12:]}
    together = decompose(encoder, decoder, sets, "binary_crossentropy", PARAMS, seed=1)
    assert list(together) == list(sets)
    for name, pixels in sets.items():
        alone = decompose(encoder, decoder, {name: pixels}, "binary_crossentropy", PARAMS, seed=1)[
            name
        ]
        assert together[name].pop("likelihood") == alone.pop("likelihood")
        if latent_dim > 2:
            assert together[name].pop("quadrature_error") is alone.pop("quadrature_error") is None
        assert together[name] == pytest.approx(alone, rel=1e-5, abs=1e-5)


def test_an_encoder_that_knows_nothing_of_x_where_the_decoder_needs_no_z_loses_nothing():
    encoder, decoder = networks(1)
    logits = decoder.get_layer("logits")
    logits.set_weights([0 * weight for weight in logits.get_weights()])
    for name in ("z_mean", "z_log_var"):
        layer = encoder.get_layer(name)
        layer.set_weights([0 * weight for weight in layer.get_weights()])
    images = np.random.default_rng(0).random((10, 784)).astype(np.float32)
    sets = {"some": images}
    parts = decompose(encoder, decoder, sets, "binary_crossentropy", PARAMS, seed=1)["some"]
    # q is the prior and the exact posterior too.
    assert parts["amortisation"] == pytest.approx(0, abs=1e-3)
    assert parts["approximation"] == pytest.approx(0, abs=1e-3)
    assert parts["negative_elbo"] == pytest.approx(784 * np.log(2), abs=1e-2)


def test_what_is_skipped_is_said_in_one_line(caplog, small_model):
    from mnist_vae.pipelines.evaluation.nodes import SKIPPED, evaluate_vae

    with caplog.at_level(logging.INFO):
        metrics = evaluate_vae(*small_model, EvaluationParams(), 1)
    assert [record.message for record in caplog.records].count(SKIPPED) == 1
    assert metrics["skipped"] == SKIPPED
    for split in metrics["splits"].values():
        assert split["decomposition"] is split["binarized"] is None


def test_a_thorough_evaluation_takes_some_images_of_each_split_apart(small_model):
    from mnist_vae.pipelines.evaluation.nodes import evaluate_vae

    params = PARAMS.model_copy(update={"likelihood_images": 12})
    splits = evaluate_vae(*small_model, params, 1)["splits"]
    assert [split["decomposition"]["n_images"] for split in splits.values()] == [12, 10, 12]
    binarized = [split["binarized"] is not None for split in splits.values()]
    assert binarized == [False, False, True]
    test = splits["test"]
    floor = test["entropy_floor"]
    assert test["decomposition"]["negative_log_likelihood"] > floor
    assert (
        test["binarized"]["negative_log_likelihood"]
        != test["decomposition"]["negative_log_likelihood"]
    )


def test_the_images_that_are_taken_apart_are_of_all_classes(small_model, monkeypatch):
    from mnist_vae.pipelines.evaluation import nodes

    *models, train, validation, test, summary = small_model
    order = np.argsort(test.label, kind="stable")  # such as in the embedded sample
    test = test.take(order)
    seen = {}
    monkeypatch.setattr(nodes, "decompose", lambda _e, _d, sets, *_: seen.update(sets) or sets)
    params = PARAMS.model_copy(update={"likelihood_images": 10})
    nodes.evaluate_vae(*models, train, validation, test, summary, params, 1)
    taken = seen["test"]
    rows = [int(np.flatnonzero((test.model_input() == image).all(axis=1))[0]) for image in taken]
    assert sorted(test.label[rows]) == list(range(10))
