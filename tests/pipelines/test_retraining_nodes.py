"""Nodes of the pipeline `retraining`: what is taken in, when there is work, who goes in service."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mnist_vae.datasets.batches import Batch
from mnist_vae.images import UNLABELLED, ImageSet
from mnist_vae.datasets.releases import Release
from mnist_vae.params import (
    EvaluationParams,
    ModelParams,
    RetrainingParams,
    SplitParams,
)
from mnist_vae.pipelines.retraining import nodes
from mnist_vae.vae.networks import build_decoder, build_encoder


def pixels(n, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28), np.uint8)


@pytest.fixture
def splits(make_images):
    return {
        "train_images": make_images(20),
        "validation_images": make_images(5, "validation", 100),
        "test_images": make_images(8, "test", 200),
    }


def check(incoming, splits, in_use=None, champion=None, **params):
    return nodes.check_batches(
        incoming,
        {name: (lambda images=images: images) for name, images in (in_use or {}).items()},
        **splits,
        champion=champion,
        split_params=SplitParams(validation_fraction=0.3),
        retraining_params=RetrainingParams(**params),
        seed=1,
    )


def test_a_good_batch_is_accepted_with_ids_of_its_own_and_its_images_parted(splits):
    labels = np.arange(40, dtype=np.uint8) % 10
    accepted, bad, intake = check({"monday": Batch(pixels(40, 1), labels)}, splits)
    ((name, images),) = accepted.items()
    assert name.startswith("monday.")
    assert images.image_id[0] == nodes.FIRST_BATCH_ID
    assert set(images.split) == {"train", "validation"}
    assert np.array_equal(images.label, labels)
    assert bad == {}
    assert intake["monday"] == {"outcome": "accepted", "images": 40, "drift": None}


def test_an_image_is_in_the_same_split_in_whatever_batch_it_comes(splits):
    images = pixels(40, 1)
    (first,) = check({"a": Batch(images)}, splits)[0].values()
    (second,) = check({"b": Batch(images[::-1].copy())}, splits)[0].values()
    assert np.array_equal(first.split, second.split[::-1])


def test_ids_go_on_after_those_in_use(splits):
    (earlier,) = check({"a": Batch(pixels(7, 1))}, splits)[0].values()
    (later,) = check({"b": Batch(pixels(3, 2))}, splits, {"a.0": earlier})[0].values()
    assert later.image_id.tolist() == [nodes.FIRST_BATCH_ID + i for i in (7, 8, 9)]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda images, splits: images.__setitem__(2, 9), "1 of 6 images are constant"),
        (
            lambda images, splits: images.__setitem__(
                slice(0, 2), splits["test_images"].grey()[:2].reshape(-1, 28, 28)
            ),
            "2 of 6 images are in the test split: expected none, received the images at 0, 1",
        ),
        (
            lambda images, splits: images.__setitem__(
                3, splits["validation_images"].grey()[0].reshape(28, 28)
            ),
            "1 of 6 images are in use already",
        ),
        (
            lambda images, splits: images.__setitem__(3, images[4]),
            "some images are there twice: expected 6 different ones, received 5",
        ),
    ],
)
def test_a_spoiled_batch_is_bad_whole_and_the_others_go_on(splits, spoil, sentence):
    images = pixels(6, 1)
    spoil(images, splits)
    accepted, bad, intake = check({"bad": Batch(images), "good": Batch(pixels(4, 2))}, splits)
    assert [name.split(".")[0] for name in accepted] == ["good"]
    assert bad["bad"]["reasons"][0].startswith(sentence)
    assert intake["bad"]["outcome"] == "bad"


def test_two_new_batches_with_the_same_image_are_not_both_accepted(splits):
    images = pixels(6, 1)
    accepted, bad, _ = check({"a": Batch(images), "b": Batch(images[3:].copy())}, splits)
    assert [name.split(".")[0] for name in accepted] == ["a"]
    assert "3 of 3 images are in use already" in bad["b"]["reasons"][0]


def test_a_batch_that_cannot_be_read_is_bad_for_that_reason(splits):
    _, bad, _ = check({"a": Batch(problem="a.png is not a PNG file")}, splits)
    assert bad["a"]["reasons"] == ["a.png is not a PNG file"]


def test_a_batch_that_a_killed_run_had_accepted_is_neither_bad_nor_new(splits):
    batch = Batch(pixels(6, 1))
    accepted, _, _ = check({"monday": batch}, splits)
    again = check({"monday": batch}, splits, accepted)
    assert again == ({}, {}, {"monday": {"outcome": "in use", "images": 6}})


@pytest.fixture(scope="module")
def networks():
    return build_encoder(seed=1), build_decoder(seed=1)


class Serving(Release):
    """A release without files."""

    def __init__(self, contents, **manifest):
        object.__setattr__(self, "contents", contents)
        object.__setattr__(self, "folder", Path("06_models/releases/000001-old"))
        object.__setattr__(self, "manifest", manifest)

    def load(self, filename):
        return self.contents[filename]


def embeddings_of(encoder, decoder, images, split):
    from mnist_vae.vae.model import score_batches

    (terms,) = score_batches(
        encoder, decoder, [images.model_input()], reconstruction="binary_crossentropy", seed=1
    )
    return pd.DataFrame(
        {
            "image_id": images.image_id,
            "split": split,
            "label": images.label,
            "z_mean_00": terms.z_mean[:, 0],
            "z_mean_01": terms.z_mean[:, 1],
            "reconstruction": terms.reconstruction,
            "kl": terms.kl,
        }
    )


@pytest.fixture
def champion(networks, make_images):
    encoder, decoder = networks
    validation = make_images(300, "validation", 400)
    frames = [
        embeddings_of(encoder, decoder, validation, "validation"),
        embeddings_of(encoder, decoder, make_images(30, "train", 800), "train"),
        embeddings_of(encoder, decoder, make_images(20, "test", 200), "test"),
    ]
    return Serving(
        {
            "encoder.keras": encoder,
            "decoder.keras": decoder,
            "training_summary.json": {"reconstruction": "binary_crossentropy"},
            "metrics.json": {"latent_dim": 2, "splits": {"test": {"active_units": 2}}},
            "latent_embeddings.parquet": pd.concat(frames),
            **{
                f"{name}.png": Image.new("L", (5, 5))
                for name in (
                    "generated_sheet",
                    "latent_manifold",
                    "reconstruction_sheet",
                    "interpolations",
                )
            },
        },
        fingerprint="old",
        test_images=make_images(20, "test", 200).digest(),
        model_version="old",
        previous=None,
    )


def test_drift_is_found_recorded_and_blocks_only_where_that_is_asked_for(splits, champion):
    dark = Batch(pixels(60, 5) // 8)
    accepted, _, intake = check({"dark": dark}, splits, champion=champion)
    assert intake["dark"]["outcome"] == "accepted"
    assert intake["dark"]["drift"]["drifted"]
    assert intake["dark"]["drift"]["p_value"] < 1e-6
    assert set(intake["dark"]["drift"]["statistics"]) == {
        "negative_elbo",
        "z_mean_00",
        "z_mean_01",
    }
    accepted, bad, _ = check({"dark": dark}, splits, champion=champion, drift_blocks=True)
    assert accepted == {}
    assert "it has drifted from the training data" in bad["dark"]["reasons"][0]


def test_images_of_the_same_kind_have_not_drifted(splits, champion):
    _, _, intake = check({"same": Batch(pixels(60, 5))}, splits, champion=champion)
    assert not intake["same"]["drift"]["drifted"]


MANIFEST = {"files": {"train_images": {"sha256": "abc"}}, "statement": "Data: some."}
PARAMETERS = {
    "seed": 1,
    "model": {"latent_dim": 2},
    "retraining": RetrainingParams().model_dump(mode="json"),
}


def plan(champion=None, declined=(), intake=None, batches=(), parameters=None, **params):
    return nodes.plan_retraining(
        MANIFEST,
        dict.fromkeys(batches),
        intake or {},
        champion,
        list(declined),
        parameters or PARAMETERS,
        RetrainingParams(**params),
    )


def test_without_a_champion_there_is_something_to_train():
    assert plan()["outcome"] is None


@pytest.mark.parametrize("where", ["champion", "declined"])
def test_what_was_judged_before_is_nothing_new(where):
    fingerprint = plan()["fingerprint"]
    champion = Serving({}, fingerprint=fingerprint if where == "champion" else "other")
    declined = [fingerprint] if where == "declined" else []
    assert plan(champion, declined)["outcome"] == "nothing_new"
    assert plan(champion, declined, force=True)["outcome"] is None


def test_a_batch_or_a_parameter_more_is_new_and_an_exit_code_is_not():
    champion = Serving({}, fingerprint=plan()["fingerprint"])
    assert plan(champion, batches=["a.0"])["outcome"] is None
    other = {**PARAMETERS, "model": {"latent_dim": 3}}
    assert plan(champion, parameters=other)["outcome"] is None
    quiet = {**PARAMETERS["retraining"], "exit_codes": {"locked": 9}, "webhook_url": "http://x"}
    assert plan(champion, parameters={**PARAMETERS, "retraining": quiet})["outcome"] is not None


def test_bad_batches_alone_are_bad_data_and_beside_news_they_are_not():
    champion = Serving({}, fingerprint=plan()["fingerprint"])
    intake = {"a": {"outcome": "bad"}}
    assert plan(champion, intake=intake)["outcome"] == "bad_data"
    assert plan(champion, intake=intake, batches=["b.0"])["outcome"] is None


def test_training_images_are_those_of_the_archive_and_of_all_batches(splits):
    (labelled,) = check({"a": Batch(pixels(10, 1), np.ones(10, np.uint8))}, splits)[0].values()
    (unlabelled,) = check({"b": Batch(pixels(12, 2))}, splits, {"a.0": labelled})[0].values()
    batches = {"a.0": lambda: labelled, "b.0": lambda: unlabelled}
    train, validation, manifest = nodes.extend_splits(
        {"fingerprint": "f"}, splits["train_images"], splits["validation_images"], batches, MANIFEST
    )
    assert len(train) + len(validation) == 20 + 5 + 22
    assert len(set(train.image_id) | set(validation.image_id)) == 47
    assert np.array_equal(train.grey()[:20], splits["train_images"].grey())
    assert (train.label == UNLABELLED).sum() == (unlabelled.split == "train").sum()
    assert manifest["batches"] == {"a.0": 10, "b.0": 12}
    assert manifest["statement"] == "Data: some. And 22 images of 2 batches that came later."


def test_a_batch_may_be_all_of_one_split(splits):
    batch = ImageSet(pixels(3, 1), np.arange(3), np.full(3, "train"))
    train, validation, _ = nodes.extend_splits(
        {"fingerprint": "f"},
        splits["train_images"],
        splits["validation_images"],
        {"a.0": lambda: batch},
        MANIFEST,
    )
    assert (len(train), len(validation)) == (23, 5)


def test_without_batches_the_splits_stay_as_they_are(splits):
    train, validation, manifest = nodes.extend_splits(
        {"fingerprint": "f"}, splits["train_images"], splits["validation_images"], {}, MANIFEST
    )
    assert train.digest() == splits["train_images"].digest()
    assert validation is splits["validation_images"]
    assert manifest["statement"] == MANIFEST["statement"]


def test_a_warm_start_has_the_weights_in_service_and_a_cold_one_has_not(champion):
    def first_weights(start):
        encoder, decoder = nodes.start_networks({"start": start}, champion, ModelParams(), 7)
        return [np.asarray(net.trainable_weights[0].value) for net in (encoder, decoder)]

    serving = [
        np.asarray(champion.load(f"{name}.keras").trainable_weights[0].value)
        for name in ("encoder", "decoder")
    ]
    for warm, old in zip(first_weights("champion"), serving, strict=True):
        assert np.array_equal(warm, old)
    for cold, old in zip(first_weights("scratch"), serving, strict=True):
        assert not np.array_equal(cold, old)


def test_a_warm_start_from_another_architecture_is_refused(champion):
    with pytest.raises(ValueError, match="The encoder in service cannot be gone on from"):
        nodes.start_networks({"start": "champion"}, champion, ModelParams(latent_dim=5), 7)


def judge(networks, champion, make_images, bias=0.0, **params):
    """Judge a candidate that is the champion but for the bias of its pixels."""
    from mnist_vae.fingerprints import fingerprint

    encoder, decoder = build_encoder(seed=1), build_decoder(seed=1)
    weights = decoder.trainable_weights[-1]
    weights.assign(np.full(weights.shape, bias, np.float32))
    test = make_images(20, "test", 200)
    frames = [
        embeddings_of(encoder, decoder, make_images(30, "train", 800), "train"),
        embeddings_of(encoder, decoder, test, "test"),
    ]
    scores = frames[1]["reconstruction"] + frames[1]["kl"]
    summary = {
        "weights": {"encoder": fingerprint(encoder), "decoder": fingerprint(decoder)},
        "model_version": "new",
        "reconstruction": params.pop("reconstruction", "binary_crossentropy"),
    }
    metrics = {
        "latent_dim": 2,
        "splits": {"test": {"negative_elbo": scores.mean(), "active_units": 2}},
    }
    return nodes.judge_candidate(
        {"fingerprint": "new", "parts": {}},
        champion,
        encoder,
        decoder,
        summary,
        metrics,
        pd.concat(frames),
        params.pop("test", test),
        EvaluationParams(),
        RetrainingParams(first_max_negative_elbo=600, **params),
        seed=1,
    )


def test_the_champion_itself_gains_nothing_and_is_kept_out(networks, champion, make_images):
    decision = judge(networks, champion, make_images, first_min_accuracy=0)
    assert decision["gain"] == 0
    assert (decision["outcome"], decision["action"]) == ("kept", "decline")
    assert "gain, nats an image" in decision["reason"]


def test_a_worse_candidate_is_kept_out_and_the_better_one_promoted(networks, champion, make_images):
    params = {"max_accuracy_drop": 1.0, "first_min_accuracy": 0.0}
    worse = judge(networks, champion, make_images, bias=1.0, **params)
    assert worse["outcome"] == "kept"
    assert worse["gain"] < 0
    champion.contents["decoder.keras"] = build_decoder(seed=1)
    bias = champion.contents["decoder.keras"].trainable_weights[-1]
    bias.assign(np.ones(bias.shape, np.float32))
    better = judge(networks, champion, make_images, **params)
    assert better["outcome"] == "promoted"
    assert better["gain"] == pytest.approx(-worse["gain"], rel=1e-3)
    low, high = better["gain_interval"]
    assert 0 < low < better["gain"] < high
    assert judge(networks, champion, make_images, min_gain=1e6, **params)["outcome"] == "kept"


def test_a_first_model_is_judged_by_the_absolute_bounds(networks, make_images):
    params = {"first_min_accuracy": 0.0}
    assert judge(networks, None, make_images, **params)["outcome"] == "promoted"
    assert judge(networks, None, make_images, bias=9.0, **params)["outcome"] == "kept"
    strict = judge(networks, None, make_images, first_min_accuracy=1.0)
    assert strict["reason"] == "it failed: label accuracy of the first model's z"


def test_models_that_do_not_compare_are_refused(networks, champion, make_images):
    with pytest.raises(ValueError, match="expected the same test images"):
        judge(networks, champion, make_images, test=make_images(20, "test", 7))
    with pytest.raises(ValueError, match="expected the same reconstruction term"):
        judge(networks, champion, make_images, reconstruction="mse")


@pytest.mark.parametrize("first", [True, False])
def test_the_report_says_what_was_decided_and_shows_old_beside_new(
    networks, champion, make_images, first
):
    champion = None if first else champion
    decision = judge(networks, champion, make_images, first_min_accuracy=0.0)
    page = nodes.write_report(
        decision,
        {"reason": "the <data> are new"},
        {"monday": {"outcome": "bad", "reasons": ["1 < 2"], "drift": None}},
        champion,
        {"statement": "Data: some.", "reconstruction": "binary_crossentropy"},
        *[Image.new("L", (4, 4))] * 4,
    )
    assert ("is in service" if first else "was not put in service") in page
    assert page.count("data:image/png;base64,") == (4 if first else 8)
    assert "the &lt;data&gt; are new" in page
    assert "1 &lt; 2" in page
    assert ("95 % interval 0.000 to 0.000" in page) is not first


def test_rolling_back_needs_a_release_before():
    assert nodes.roll_back(Serving({}, previous="000000-x"))["action"] == "roll_back"
    for champion in (None, Serving({}, previous=None)):
        with pytest.raises(ValueError, match="There is no release to go back to"):
            nodes.roll_back(champion)


def test_labels_of_neighbours_are_those_that_are_known():
    n = 100
    labels = np.arange(n) % 2
    frame = pd.DataFrame(
        {
            "image_id": np.arange(n),
            "split": np.where(np.arange(n) < 60, "train", "test"),
            "label": labels.astype(float),
            "z_mean_00": labels + 0.01 * np.arange(n) / n,
        }
    )
    assert nodes._label_accuracy(frame, 5) == 1.0
    frame.loc[frame["split"] == "train", "label"] = np.nan
    assert nodes._label_accuracy(frame, 5) is None
    assert nodes._label_accuracy(frame.drop(columns="label"), 5) is None


def test_images_that_never_had_labels_stay_without(make_images):
    images = make_images(4, labelled=False)
    batch = ImageSet(pixels(3, 1), np.arange(3), np.full(3, "train"))
    assert nodes._concatenate(images, "train", [batch]).label is None
