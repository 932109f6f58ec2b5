"""Anomaly scores against cases whose answer is known."""

import json

import numpy as np
import pytest

from mnist_vae.data.fingerprints import fingerprint
from mnist_vae.data.images import UNLABELLED, ImageSet
from mnist_vae.encoding.anomalies import Calibration, calibrate, score_of, scores_of, threshold_of
from mnist_vae.params import AnomalyParams
from mnist_vae.vae.elbo import ElboTerms


def calibration_of(score="relative_excess", threshold=1.0, **changes):
    values = {
        "model_version": "m",
        "reconstruction": "binary_crossentropy",
        "score": score,
        "false_positive_rate": 0.05,
        "threshold": threshold,
        "n_validation": 10,
        "entropy_cap": 100.0,
        "latent_means": ((0.0, 0.0), (10.0, 0.0)),
        "latent_precision": ((1.0, 0.0), (0.0, 0.25)),
    }
    return Calibration(**{**values, **changes})


def terms_of(negative_elbo, z_mean):
    kl = np.full(len(z_mean), 3.0, np.float32)
    reconstruction = np.asarray(negative_elbo, np.float32) - kl
    z_mean = np.asarray(z_mean, np.float32)
    return ElboTerms(reconstruction, kl, z_mean, np.zeros_like(z_mean))


@pytest.fixture
def half_grey():
    """Images with 0, 100 and 784 pixels of ½, whose entropy is log 2 each."""
    pixels = np.zeros((3, 784), np.float32)
    pixels[1, :100] = 0.5
    pixels[2] = 0.5
    return pixels


def test_each_score_is_the_one_worked_out_by_hand(half_grey):
    terms = terms_of([20.0, 120.0, 700.0], [[0, 0], [10, 4], [7, 0]])
    scores = scores_of(calibration_of(), half_grey, terms)
    entropy = np.array([0, 100, 784]) * np.log(2)
    assert scores["negative_elbo"] == pytest.approx([20, 120, 700])
    assert scores["entropy"] == pytest.approx(entropy, rel=1e-6)
    excess = np.array([20, 120, 700]) - entropy
    assert scores["excess"] == pytest.approx(excess, rel=1e-5)
    capped = np.array([0, 100 * np.log(2), 100])
    assert scores["relative_excess"] == pytest.approx(excess / (5 + capped), rel=1e-5)
    # To the mean of the nearer class, with a variance of 4 in the second dimension.
    assert scores["mahalanobis"] == pytest.approx([0, 2, 3])
    assert {score.dtype for score in scores.values()} == {np.dtype(np.float32)}


def test_the_floor_of_a_squared_error_is_nothing(half_grey):
    terms = terms_of([20.0, 120.0, 700.0], np.zeros((3, 2)))
    scores = scores_of(calibration_of(reconstruction="mse"), half_grey, terms)
    assert scores["excess"] == pytest.approx([20, 120, 700])


@pytest.mark.parametrize("score", ["negative_elbo", "excess", "relative_excess", "mahalanobis"])
def test_the_score_that_decides_is_the_column_of_its_name(score, half_grey):
    terms = terms_of([20.0, 120.0, 700.0], [[0, 0], [10, 4], [7, 0]])
    calibration = calibration_of(score)
    expected = scores_of(calibration, half_grey, terms)[score]
    assert score_of(calibration, half_grey, terms).tolist() == expected.tolist()


def test_what_is_above_the_threshold_is_an_anomaly_and_nothing_else():
    calibration = calibration_of(threshold=2.0)
    assert calibration.flags(np.array([1.9, 2.0, 2.1], np.float32)).tolist() == [False, False, True]


@pytest.mark.parametrize(("rate", "above"), [(0.05, 5), (0.1, 10), (0.001, 0), (0.999, 99)])
def test_at_most_the_stated_share_of_the_scores_is_above_the_threshold(rate, above):
    scores = np.random.default_rng(0).permutation(100).astype(np.float32)
    assert (scores > threshold_of(scores, rate)).sum() == above


def test_equal_scores_are_not_above_their_threshold():
    assert threshold_of(np.full(20, 7.0), 0.05) == 7.0


def test_a_calibration_is_the_same_after_json():
    calibration = calibration_of(threshold=float(np.float32(1.1)))
    again = Calibration.model_validate(json.loads(calibration.model_dump_json()))
    assert again == calibration
    assert not again.flags(np.array([1.1], np.float32)).any()


@pytest.fixture(scope="module")
def networks():
    from mnist_vae.vae.networks import build_decoder, build_encoder

    return (
        build_encoder(latent_dim=3, hidden_units=(16,), seed=1),
        build_decoder(latent_dim=3, hidden_units=(16,), seed=1),
    )


def summary_of(networks):
    return {
        "model_version": fingerprint(*networks),
        "weights": {model.name: fingerprint(model) for model in networks},
        "reconstruction": "binary_crossentropy",
    }


def calibrated(networks, train, validation, **params):
    anomaly = AnomalyParams(**params)
    return calibrate(*networks, train, validation, summary_of(networks), anomaly, 1)


def test_a_model_is_calibrated_on_its_validation_images(networks, make_images):
    from mnist_vae.vae.elbo import score_batches
    from mnist_vae.vae.losses import entropy_floor

    train, validation = make_images(60), make_images(40, "validation", 60)
    calibration = calibrated(networks, train, validation, false_positive_rate=0.1)
    (terms,) = score_batches(
        *networks, [validation.model_input()], reconstruction="binary_crossentropy", seed=1
    )
    scores = score_of(calibration, validation.model_input(), terms)
    assert calibration.flags(scores).sum() == 4
    assert calibration.n_validation == 40
    entropies = entropy_floor(validation.model_input())
    assert calibration.entropy_cap == pytest.approx(np.quantile(entropies, 0.99))
    z_mean = np.asarray(networks[0](train.model_input())[0], np.float64)
    means = [z_mean[train.label == label].mean(axis=0) for label in range(10)]
    assert np.array(calibration.latent_means) == pytest.approx(np.array(means), abs=1e-5)
    around = z_mean - np.array(means)[train.label]
    covariance = around.T @ around / 60 + 0.01 * np.eye(3)
    precision = np.array(calibration.latent_precision)
    assert precision @ covariance == pytest.approx(np.eye(3), abs=1e-4)


def test_images_without_labels_are_one_class(networks, make_images):
    train = make_images(30, labelled=False)
    calibration = calibrated(networks, train, make_images(20, "validation", 30, labelled=False))
    assert len(calibration.latent_means) == 1


def test_images_without_a_label_are_no_class_beside_those_of_others(networks, make_images):
    """As a batch without labels has them, among images that have one."""
    train, validation = make_images(60), make_images(20, "validation", 60)
    of_all = calibrated(networks, train, validation)
    more, n = make_images(90), 30
    label = np.concatenate([train.label, np.full(n, UNLABELLED, np.uint8)])
    pixels = np.concatenate([train.pixels, more.pixels[-n:]])
    mixed = ImageSet(pixels, more.image_id, more.split, label)
    with_unlabelled = calibrated(networks, mixed, validation)
    assert with_unlabelled.latent_means == of_all.latent_means
    assert with_unlabelled.latent_precision == of_all.latent_precision


def test_models_that_were_not_trained_together_are_refused(networks, make_images):
    from mnist_vae.vae.networks import build_decoder

    stranger = build_decoder(latent_dim=3, hidden_units=(16,), seed=2)
    with pytest.raises(ValueError, match="decoder does not belong"):
        calibrate(
            networks[0],
            stranger,
            make_images(),
            make_images(),
            summary_of(networks),
            AnomalyParams(),
            1,
        )


def test_a_white_image_has_a_finite_score(networks):
    black_and_white = ImageSet(
        pixels=np.repeat(255 * np.eye(2, 784, dtype=np.uint8), 10, axis=0),
        image_id=np.arange(20),
        split=np.full(20, "train"),
    )
    assert np.isfinite(calibrated(networks, black_and_white, black_and_white).threshold)
