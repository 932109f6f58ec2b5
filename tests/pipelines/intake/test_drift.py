"""Drift: an effect, with its p-value."""

import numpy as np
import pytest

from mnist_vae.data.images import ImageSet
from mnist_vae.params import RetrainingParams
from mnist_vae.pipelines.intake.drift import measure_drift
from tests.pipelines.conftest import Serving, embeddings_of


@pytest.fixture
def measure(champion, pixels):
    def run(n, change=lambda images: images, release=champion, **params):
        images = change(pixels(n, 5)).reshape(-1, 784)
        new = ImageSet(images, np.arange(n), np.full(n, "new"))
        return measure_drift(new, release, RetrainingParams(**params), 1)

    return run


def test_images_of_the_same_kind_have_not_drifted_and_darker_ones_have(measure):
    assert not measure(60).drifted
    drift = measure(60, lambda images: images // 8)
    assert drift.drifted
    assert set(drift.distances) == {"negative_elbo", "z_mean_00", "z_mean_01"}
    assert drift.effect == pytest.approx(max(drift.distances.values()), abs=1e-4)
    assert drift.p_value < 1e-6


def test_a_large_batch_that_is_off_by_little_has_not_drifted_however_sure_that_is(measure):
    def darken_a_fifth(images):
        images[::5] //= 8
        return images

    little = measure(4000, darken_a_fifth, drift_effect=0.4)
    assert little.p_value < 0.001
    assert little.effect < 0.4
    assert not little.drifted


def test_a_few_images_are_far_from_anything_by_chance_and_have_not_drifted(measure):
    few = measure(3)
    assert few.effect > RetrainingParams().drift_effect
    assert few.p_value > 0.001
    assert not few.drifted


def test_images_of_the_same_kind_have_not_drifted_from_embeddings_that_were_refined(
    measure, served, networks, make_images
):
    images = make_images(300, "validation", 400)
    known = embeddings_of(*networks, images, "validation", refine_steps=15)
    run = {"parameters": {"embedding": {"refine_steps": 15}}}
    files = {**served, "latent_embeddings.parquet": known, "run_manifest.json": run}
    drift = measure(60, release=Serving(files))
    assert not drift.drifted, drift.distances
