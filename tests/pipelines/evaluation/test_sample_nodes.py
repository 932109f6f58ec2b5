"""The quality of samples: what is measured, what is said of it, and when it is skipped."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from mnist_vae.fingerprints import fingerprint
from mnist_vae.images import UNLABELLED, ImageSet
from mnist_vae.params import EvaluationParams, GenerationParams
from mnist_vae.pipelines.evaluation import sample_nodes
from mnist_vae.pipelines.evaluation.contracts import SampleQualityContract
from mnist_vae.pipelines.evaluation.samples import precision_recall

THOROUGH = EvaluationParams(thorough=True)
FEW = GenerationParams(mixture_components=2)


def bars(n, split, first_id=0, labelled=True):
    """Images of a bar that lies or stands, at any place."""
    random = np.random.default_rng(first_id + 1)
    pixels = random.integers(0, 40, (n, 28, 28), np.uint8)
    label = np.arange(n, dtype=np.uint8) % 2
    for image, stands, place in zip(pixels, label, random.integers(2, 24, n), strict=True):
        (image.T if stands else image)[place : place + 3] = 250
    pixels = pixels.reshape(n, 784) / np.float32(255)
    ids = np.arange(first_id, first_id + n)
    return ImageSet(pixels, ids, np.full(n, split), label if labelled else None)


TRAIN, VALIDATION, TEST = bars(300, "train"), bars(20, "validation", 500), bars(50, "test", 800)


def summary_of(networks, train=TRAIN, **more):
    return {
        "model_version": "one",
        "statement": "Data: bars.",
        "weights": {model.name: fingerprint(model) for model in networks},
        "images": {"train": train.digest(), "validation": VALIDATION.digest()},
        **more,
    }


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    """Bars are told apart soon."""
    from mnist_vae.pipelines.evaluation import classifier

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "_STEPS", 60)
        yield


@pytest.fixture(scope="module")
def classifier(few_steps):
    return sample_nodes.train_feature_classifier(TRAIN, THOROUGH, 42)


@pytest.fixture(scope="module")
def measured(networks, classifier):
    return sample_nodes.measure_samples(
        *networks,
        classifier,
        TRAIN,
        VALIDATION,
        TEST,
        summary_of(networks, release="000001-one"),
        THOROUGH,
        FEW,
        42,
    )


def test_the_classifier_tells_what_is_easy_to_tell_and_is_the_same_for_the_same_seed(
    measured, classifier
):
    again = sample_nodes.train_feature_classifier(TRAIN, THOROUGH, 42)["feature_classifier"]
    assert fingerprint(again) == fingerprint(classifier["feature_classifier"])
    assert measured["classifier"] == {
        "checksum": fingerprint(again),
        "n_training_images": 300,
        "validation_accuracy": 1.0,
        "test_accuracy": 1.0,
    }


def test_its_features_are_the_last_hidden_layer_of_the_bytes(classifier):
    from mnist_vae.pipelines.evaluation.classifier import features

    found = features(classifier["feature_classifier"], TEST.grey())
    assert found.shape == (50, 64)
    assert found.dtype == np.float64
    assert (found >= 0).all()
    stands = TEST.label == 1
    inside = np.linalg.norm(found[stands] - found[stands].mean(0), axis=1).mean()
    between = np.linalg.norm(found[stands].mean(0) - found[~stands].mean(0))
    assert between > inside


def test_every_sampler_stands_beside_real_images_and_reconstructions(measured):
    rows = {row["set"]: row for row in measured["sets"]}
    assert list(rows) == [
        "training images",
        "draws of the posteriors of training images",
        "prior",
        "prior, temperature 0.8",
        "mixture",
        "class_mixture",
    ]
    assert measured["n_images"] == 50
    assert measured["repeats"] == 5
    # Of an untrained model nothing is like a real image, but real images are.
    assert rows["training images"]["fid"] < 0.3 * rows["prior"]["fid"]
    assert rows["training images"]["precision"] > 0.8
    assert rows["prior"]["precision"] < 0.2
    assert rows["prior"]["fid_standard_error"] > 0


def test_the_report_says_which_model_it_is_of_and_passes_its_contract(measured):
    assert (measured["model_version"], measured["release"]) == ("one", "000001-one")
    assert measured["data"] == "Data: bars."
    assert "not Inception FIDs" in measured["not_inception"]
    assert measured["verdict"].startswith("Of the samplers ")
    assert json.loads(json.dumps(SampleQualityContract().validate(measured))) == measured


def test_it_is_the_same_for_the_same_seed(measured, networks, classifier):
    summary = summary_of(networks, release="000001-one")
    splits = (TRAIN, VALIDATION, TEST)
    arguments = (*networks, classifier, *splits, summary, THOROUGH, FEW, 42)
    assert sample_nodes.measure_samples(*arguments) == measured


def test_without_being_asked_for_it_is_skipped_and_says_so_in_one_line(networks, caplog):
    caplog.set_level(logging.INFO)
    params = EvaluationParams()
    assert sample_nodes.train_feature_classifier(TRAIN, params, 42) == {}
    report = sample_nodes.measure_samples(
        *networks, {}, TRAIN, VALIDATION, TEST, summary_of(networks), params, FEW, 42
    )
    assert report["skipped"].endswith("set `evaluation.thorough` to true.")
    assert report["skipped"] in caplog.text
    assert report["sets"] is report["classifier"] is None
    assert SampleQualityContract().validate(report) is report


ONE_CLASS = np.where(np.arange(300) % 2, UNLABELLED, 3).astype(np.uint8)


@pytest.mark.parametrize(
    ("label", "why"),
    [
        (None, "no training image has a label"),
        (np.full(300, UNLABELLED, np.uint8), "no training image has a label"),
        (ONE_CLASS, "the training images have one label alone"),
    ],
)
def test_without_classes_there_are_no_figures_and_one_line_says_why(label, why, networks):
    train = ImageSet(TRAIN.pixels, TRAIN.image_id, TRAIN.split, label)
    assert sample_nodes.train_feature_classifier(train, THOROUGH, 42) == {}
    report = sample_nodes.measure_samples(
        *networks, {}, train, VALIDATION, TEST, summary_of(networks), THOROUGH, FEW, 42
    )
    assert report["sets"] is None
    assert why in report["skipped"]


def test_images_without_a_label_among_others_are_not_trained_on(classifier):
    label = TRAIN.label.copy()
    label[::3] = UNLABELLED
    some = ImageSet(TRAIN.pixels, TRAIN.image_id, TRAIN.split, label)
    model = sample_nodes.train_feature_classifier(some, THOROUGH, 42)["feature_classifier"]
    assert model.output_shape == (None, 2)
    assert sample_nodes._describe(model, 42, some, VALIDATION, TEST)["n_training_images"] == 200


def test_models_and_images_of_another_training_are_refused(networks, classifier):
    summary = summary_of(networks, bars(30, "train", 2000))
    with pytest.raises(ValueError, match="train images changed after the model was trained"):
        sample_nodes.measure_samples(
            *networks, classifier, TRAIN, VALIDATION, TEST, summary, THOROUGH, FEW, 42
        )


def figures(fid, error):
    return {"fid": fid, "fid_standard_error": error}


def test_the_verdict_calls_a_difference_within_the_noise_none():
    measured = {
        "prior": figures(38.0, 0.2),
        "mixture": figures(30.2, 0.3),
        "class_mixture": figures(30.0, 0.2),
    }
    assert sample_nodes._verdict(measured) == (
        "Of the samplers class_mixture has the lowest FID, 30.00; higher is that of prior (38.00); "
        "mixture differs from it by less than twice the standard error of the difference, which is "
        "no difference."
    )


@pytest.mark.parametrize("labelled", [True, False])
def test_the_sheet_has_a_row_a_sampler_under_real_images(networks, labelled, monkeypatch):
    drawn = {}

    def record(pixels, captions, **how):
        drawn.update(pixels=pixels, captions=captions, **how)
        return Image.new("L", (5, 5))

    monkeypatch.setattr(sample_nodes, "sheet", record)
    train = ImageSet(TRAIN.pixels, TRAIN.image_id, TRAIN.split, TRAIN.label if labelled else None)
    sample_nodes.draw_sampler_sheet(*networks, train, TEST, summary_of(networks), FEW, 42)
    names = ["test images", "prior", "prior, temperature 0.8", "mixture"]
    assert drawn["captions"].rows == names + ["class_mixture"] * labelled
    assert drawn["captions"].statement == "Data: bars."
    assert len(drawn["pixels"]) == 15 * len(drawn["captions"].rows)
    real = drawn["pixels"][:15].reshape(15, 784)
    assert all((TEST.grey() == image).all(1).any() for image in real)
    assert precision_recall(real, TEST.grey()).precision == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fid": float("nan")}, "wrong `fid` of the set prior: expected a finite number, received"),
        ({"recall": 1.5}, "wrong `recall` .* a finite number, 0 to 1, received 1.5"),
        ({"kid": None}, "wrong `kid` .* received None"),
    ],
)
def test_a_wrong_figure_breaks_the_contract(measured, change, message):
    prior = next(row for row in measured["sets"] if row["set"] == "prior")
    with pytest.raises(ValueError, match=message):
        SampleQualityContract().validate({**measured, "sets": [{**prior, **change}]})


def test_a_report_of_nothing_without_a_reason_breaks_the_contract():
    with pytest.raises(ValueError, match="report of the sample quality is empty"):
        SampleQualityContract().validate({"sets": None, "skipped": None})


@pytest.mark.parametrize(("n_train", "n_test"), [(300, 1), (9, 50)])
def test_of_too_few_images_no_quality_is_measured_and_the_report_says_why(n_train, n_test):
    from mnist_vae.vae.networks import build_decoder, build_encoder

    networks = build_encoder(seed=1), build_decoder(seed=1)
    train, test = TRAIN.take(slice(n_train)), TEST.take(slice(n_test))
    report = sample_nodes.measure_samples(
        *networks,
        sample_nodes.train_feature_classifier(train, THOROUGH, 42),
        train,
        VALIDATION,
        test,
        summary_of(networks, train),
        THOROUGH,
        FEW,
        42,
    )
    assert report["sets"] is None
    assert f"received {n_test} and {n_train}" in report["skipped"]
    SampleQualityContract().validate(report)
