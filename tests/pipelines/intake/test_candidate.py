"""What a candidate is made of: its images, and the networks that it starts from."""

import numpy as np
import pytest

from mnist_vae.data.images import UNLABELLED, ImageSet
from mnist_vae.jobs.batch_files import Batch
from mnist_vae.jobs.records import Plan
from mnist_vae.params import ModelParams, RetrainingParams
from mnist_vae.pipelines.intake import candidate


def plan(started_from=None):
    return Plan(
        fingerprint="f",
        parts={},
        gate="g",
        outcome=None,
        reason="data are new",
        started_from=started_from,
    )


MANIFEST = {"statement": "Data: some."}


def test_the_judge_has_images_of_every_class_that_nobody_is_trained_on(make_images):
    images = make_images(200)
    learning, judge = candidate.set_judge_apart(images, RetrainingParams(judge_fraction=0.1), 1)
    assert (len(learning), len(judge)) == (180, 20)
    assert np.array_equal(np.bincount(judge.label), np.full(10, 2))
    assert set(judge.split) == {"judge"}
    assert sorted([*learning.image_id, *judge.image_id]) == images.image_id.tolist()
    again = candidate.set_judge_apart(images, RetrainingParams(judge_fraction=0.1), 1)[1]
    assert again.digest() == judge.digest()


def test_too_few_images_for_a_judge_are_refused(make_images):
    with pytest.raises(ValueError, match="too few training images to set some apart"):
        candidate.set_judge_apart(make_images(5), RetrainingParams(judge_fraction=0.05), 1)


def test_a_release_embeds_judge_and_test_images_each_with_its_split(make_images):
    held_out = candidate.hold_out(make_images(3, "judge"), make_images(4, "test", 100))
    assert held_out.split.tolist() == ["judge"] * 3 + ["test"] * 4
    assert len(set(held_out.image_id)) == 7


@pytest.fixture
def batches(pixels):
    """A labelled and an unlabelled batch in use."""

    def split(images, labels, first_id):
        hashes = candidate.image_hashes(images)
        ids = np.arange(first_id, first_id + len(images))
        return candidate.split_batch(Batch(images, labels), hashes, ids, 0.3)

    labelled = split(pixels(10, 1), np.ones(10, np.uint8), 1000)
    unlabelled = split(pixels(12, 2), None, 1010)
    return {"a.0": lambda: labelled, "b.0": lambda: unlabelled}


def test_training_images_are_those_of_the_archive_and_of_all_batches(make_images, batches):
    archive, validation = make_images(20), make_images(5, "validation", 100)
    train, extended, manifest = candidate.extend_splits(
        plan("000001-old"), archive, validation, batches, MANIFEST
    )
    assert len(train) + len(extended) == 20 + 5 + 22
    assert len(set(train.image_id) | set(extended.image_id)) == 47
    assert np.array_equal(train.pixels[:20], archive.pixels)
    unlabelled = batches["b.0"]()
    assert (train.label == UNLABELLED).sum() == (unlabelled.split == "train").sum()
    assert manifest["batches"] == {"a.0": 10, "b.0": 12}
    assert manifest["statement"] == "Data: some. And 22 images of 2 batches that came later."
    assert manifest["started_from"] == "000001-old"


def test_a_batch_may_be_all_of_one_split_and_labels_may_be_missing_everywhere(make_images, pixels):
    batch = ImageSet(pixels(3, 1).reshape(-1, 784), np.arange(1000, 1003), np.full(3, "train"))
    train, validation, _ = candidate.extend_splits(
        plan(),
        make_images(20, labelled=False),
        make_images(5, "validation", 100),
        {"a.0": lambda: batch},
        MANIFEST,
    )
    assert (len(train), len(validation)) == (23, 5)
    assert train.label is None


def test_an_archive_that_is_numbered_like_a_batch_is_refused(make_images, batches):
    archive = make_images(20, "train", 1005)
    with pytest.raises(ValueError, match=r"ids are those of two images.*number the images"):
        candidate.extend_splits(
            plan(), archive, make_images(5, "validation", 100), batches, MANIFEST
        )


def test_without_batches_the_splits_stay_as_they_are(make_images):
    archive, validation = make_images(20), make_images(5, "validation", 100)
    train, extended, manifest = candidate.extend_splits(plan(), archive, validation, {}, MANIFEST)
    assert train is archive
    assert extended is validation
    assert manifest["statement"] == MANIFEST["statement"]


def test_a_warm_start_has_the_weights_in_service_and_a_cold_one_has_not(champion):
    def first_weights(started_from):
        networks = candidate.start_networks(plan(started_from), champion, ModelParams(), 7)
        return [np.asarray(network.trainable_weights[0].value) for network in networks]

    serving = [
        np.asarray(champion.load(f"{name}.keras").trainable_weights[0].value)
        for name in ("encoder", "decoder")
    ]
    for warm, old in zip(first_weights("000001-old"), serving, strict=True):
        assert np.array_equal(warm, old)
    for cold, old in zip(first_weights(None), serving, strict=True):
        assert not np.array_equal(cold, old)


def test_a_warm_start_from_another_architecture_is_refused(champion):
    with pytest.raises(ValueError, match="The encoder in service has another architecture"):
        candidate.start_networks(plan("000001-old"), champion, ModelParams(latent_dim=5), 7)
