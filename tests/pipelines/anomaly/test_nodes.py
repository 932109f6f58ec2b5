"""Nodes of the pipeline `anomaly` on models and images that are made for them."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mnist_vae.contracts import ANOMALY_SCORES, AnomalyContract
from mnist_vae.datasets.archive_parts import ImageArchive
from mnist_vae.fingerprints import fingerprint
from mnist_vae.params import AnomalyParams, ModelParams, TrainingParams
from mnist_vae.pipelines.anomaly.nodes import (
    calibrate_anomalies,
    compare_protocols,
    score_anomalies,
    score_new_anomalies,
    summarise_anomalies,
)


@pytest.fixture(scope="module")
def networks():
    from mnist_vae.vae.networks import build_decoder, build_encoder

    return (
        build_encoder(latent_dim=2, hidden_units=(16,), seed=1),
        build_decoder(latent_dim=2, hidden_units=(16,), seed=1),
    )


@pytest.fixture
def parts(make_images):
    return [make_images(60), make_images(40, "validation", 60), make_images(30, "test", 100)]


@pytest.fixture
def summary(networks, parts):
    return {
        "model_version": fingerprint(*networks),
        "weights": {model.name: fingerprint(model) for model in networks},
        "images": {"train": parts[0].digest(), "validation": parts[1].digest()},
        "reconstruction": "binary_crossentropy",
        "statement": "Trained on 60 images.",
    }


def test_the_threshold_is_of_the_model_in_use(networks, parts, summary):
    params = AnomalyParams(false_positive_rate=0.1)
    calibration = calibrate_anomalies(*networks, *parts[:2], summary, params, 1)
    assert calibration.model_version == summary["model_version"]
    assert (calibration.score, calibration.false_positive_rate) == ("relative_excess", 0.1)
    assert calibration.n_validation == 40


def test_images_that_the_model_was_not_trained_on_choose_no_threshold(networks, parts, summary):
    with pytest.raises(ValueError, match="The validation images changed"):
        calibrate_anomalies(*networks, parts[0], parts[2], summary, AnomalyParams(), 1)


@pytest.fixture
def calibration(networks, parts, summary):
    return calibrate_anomalies(*networks, *parts[:2], summary, AnomalyParams(), 1)


def scored(networks, parts, summary, calibration, images=None, **params):
    images = parts[2] if images is None else images
    params = AnomalyParams(**{"refine_steps": 1, **params})
    return score_anomalies(*networks, parts[0], images, summary, calibration, params, 1)


def test_there_is_one_row_an_image_with_every_score(networks, parts, summary, calibration):
    table = AnomalyContract().validate(scored(networks, parts, summary, calibration)).read_pandas()
    assert table["image_id"].tolist() == parts[2].image_id.tolist()
    assert list(table.columns) == [
        *("image_id", "split", "label"),
        *ANOMALY_SCORES,
        *("is_anomaly", "model_version"),
    ]
    above = table["relative_excess"].astype(float) > calibration.threshold
    assert table["is_anomaly"].tolist() == above.tolist()
    assert table["excess"].to_numpy() == pytest.approx(
        (table["negative_elbo"] - table["entropy"]).to_numpy(), rel=1e-4
    )


def test_the_table_says_what_its_flags_follow_from(networks, parts, summary, calibration):
    metadata = scored(networks, parts, summary, calibration).schema.metadata
    assert metadata[b"score"] == b"relative_excess"
    assert float(metadata[b"threshold"]) == calibration.threshold
    assert metadata[b"model_version"].decode() == summary["model_version"]


def test_the_batches_change_nothing(networks, parts, summary, calibration, monkeypatch):
    whole = scored(networks, parts, summary, calibration).read_pandas()
    monkeypatch.setattr("mnist_vae.anomalies.BATCH_SIZE", 7)
    in_parts = scored(networks, parts, summary, calibration).read_pandas()
    for name in ANOMALY_SCORES:
        assert in_parts[name].to_numpy() == pytest.approx(whole[name].to_numpy(), rel=1e-3)


def test_the_distance_is_that_to_the_nearest_training_image(networks, parts, summary, calibration):
    table = scored(networks, parts, summary, calibration, neighbours=1).read_pandas()
    train, test = (np.asarray(networks[0](part.pixels)[0]) for part in (parts[0], parts[2]))
    distances = np.linalg.norm(test[:, np.newaxis] - train, axis=2).min(axis=1)
    assert table["knn_distance"].to_numpy() == pytest.approx(distances, rel=1e-3, abs=1e-5)


def test_the_regret_is_what_the_refinement_gains(networks, parts, summary, calibration):
    from mnist_vae.vae.inference import Refiner
    from mnist_vae.vae.model import score_batches

    table = scored(networks, parts, summary, calibration, refine_steps=5).read_pandas()
    refiner = Refiner(networks[1], steps=5, seed=1)
    term = {"reconstruction": "binary_crossentropy", "seed": 1}
    (own,) = score_batches(*networks, [parts[2].pixels], **term)
    (refined,) = score_batches(*networks, [parts[2].pixels], **term, refine=refiner)
    gain = own.reconstruction + own.kl - refined.reconstruction - refined.kl
    assert table["likelihood_regret"].to_numpy() == pytest.approx(gain, abs=2e-3)
    assert gain.mean() > 0


@pytest.mark.slow
def test_the_exact_likelihood_is_a_column_where_it_is_asked_for(
    networks, parts, summary, calibration
):
    stream = scored(networks, parts, summary, calibration, exact=True)
    table = AnomalyContract().validate(stream).read_pandas()
    # −ELBO at one draw of z; its mean over the draws is above −log p(x).
    gap = table["negative_elbo"] - table["negative_log_likelihood"]
    assert 0 < gap.mean() < 5


def test_a_quadrature_over_many_dimensions_is_refused_before_any_work(parts, summary, calibration):
    from mnist_vae.vae.networks import build_decoder, build_encoder

    wide = [
        build(latent_dim=3, hidden_units=(4,), seed=1) for build in (build_encoder, build_decoder)
    ]
    summary = {**summary, "weights": {model.name: fingerprint(model) for model in wide}}
    with pytest.raises(ValueError, match="one or two latent dimensions, received 3; leave it"):
        scored(wide, parts, summary, calibration, exact=True)


def test_new_images_are_scored_without_labels(networks, parts, summary, calibration):
    scans = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    table = score_new_anomalies(
        *networks, parts[0], scans, summary, calibration, AnomalyParams(refine_steps=1), 1
    ).read_pandas()
    assert "label" not in table.columns
    assert set(table["split"]) == {"new"}


def test_scores_by_the_threshold_of_another_model_are_refused(
    networks, parts, summary, calibration
):
    other = calibration.model_copy(update={"model_version": "other"})
    with pytest.raises(ValueError, match=r"of another model: expected that of .*--pipelines anom"):
        scored(networks, parts, summary, other)


def test_images_of_another_shape_are_refused(networks, parts, summary, calibration):
    scans = np.zeros((4, 784), np.uint8)
    with pytest.raises(ValueError, match=r"must be uint8 \[n, 28, 28\]"):
        score_new_anomalies(*networks, parts[0], scans, summary, calibration, AnomalyParams(), 1)


def test_a_flag_that_does_not_follow_from_the_threshold_is_not_saved(
    networks, parts, summary, calibration
):
    table = scored(networks, parts, summary, calibration).read_all()
    flags = pa.array(~table["is_anomaly"].to_numpy())
    field = table.schema.field("is_anomaly")
    wrong = table.set_column(table.schema.get_field_index("is_anomaly"), field, flags)
    stream = AnomalyContract().validate(wrong.to_reader())
    with pytest.raises(ValueError, match="30 rows whose `is_anomaly` does not follow"):
        stream.read_all()


@pytest.fixture
def compared(networks, parts, summary, calibration):
    def compare(outliers=None, labelled=True, classes=2, **params):
        splits = [
            dataclasses.replace(part, label=part.label % classes if labelled else None)
            for part in parts
        ]
        return compare_protocols(
            *networks,
            *splits,
            outliers,
            summary,
            calibration,
            AnomalyParams(**{"latent_dim": 2, "epochs": 2, "refine_steps": 1, **params}),
            ModelParams(hidden_units=(16,)),
            TrainingParams(batch_size=16, jit_compile=False),
            1,
        )

    return compare


def archive_of(n):
    pixels = np.random.default_rng(5).integers(0, 256, (2, n, 28, 28), np.uint8)
    labels = np.arange(n, dtype=np.uint8) % 10
    manifest = {"name": "noise", "source": "folder", "statement": "Data: noise."}
    return ImageArchive(pixels[0], labels, pixels[1], labels, manifest)


def test_what_needs_no_training_is_always_compared(compared, caplog):
    with caplog.at_level("INFO"):
        table = compared(archive_of(100))
    assert set(table["protocol"]) == {"corrupted", "other_data"}
    assert set(table["outlier"]) >= {"gaussian 0.3", "blur 1", "noise"}
    assert set(table["score"]) >= {"entropy", "relative_excess", "isolation_forest"}
    assert table["auroc"].between(0, 1).all()
    (line,) = [record for record in caplog.messages if "skipped" in record]
    assert "`--params anomaly.thorough=true` runs them" in line


def test_without_another_data_set_the_rest_is_compared(compared):
    assert set(compared()["protocol"]) == {"corrupted"}


@pytest.mark.slow
def test_a_thorough_run_trains_a_model_for_each_class_and_for_the_other_data(networks, compared):
    before = fingerprint(*networks)
    table = compared(archive_of(100), thorough=True)
    assert fingerprint(*networks) == before, "the model in use stays as it is"
    rows = table[(table["score"] == "relative_excess") & (table["split"] == "test")].set_index(
        ["protocol", "normal", "outlier"]
    )
    assert rows.loc[("one_class", "1", "rest"), ["n_normal", "n_outlier"]].tolist() == [15, 15]
    assert ("held_out", "rest", "0") in rows.index
    assert ("other_data", "own images", "noise") in rows.index
    assert ("other_data", "noise", "own images") in rows.index
    assert len(rows) == 2 + 2 + 2 + 4
    assert "likelihood_regret" in set(table["score"])


def test_a_thorough_run_without_labels_says_what_it_leaves_out(compared, caplog):
    with caplog.at_level("INFO"):
        table = compared(labelled=False, thorough=True)
    assert set(table["protocol"]) == {"corrupted"}
    assert sum("the images have no labels" in line for line in caplog.messages) == 2


def test_a_thorough_run_with_one_class_says_what_it_leaves_out(compared, caplog):
    with caplog.at_level("INFO"):
        table = compared(classes=1, thorough=True)
    assert set(table["protocol"]) == {"corrupted"}
    for protocol in ("one_class", "held_out"):
        assert (
            f"The protocol {protocol} is skipped: it takes two classes or more, and all images "
            "have one label." in caplog.messages
        )


def test_the_summary_has_mean_and_worst_of_each_protocol(calibration, summary, caplog):
    scores = pd.DataFrame({"is_anomaly": [True, False, False, False]})
    scores["model_version"] = summary["model_version"]
    rows = [
        ("one_class", "0", "rest", "test", "excess", 0.9),
        ("one_class", "1", "rest", "test", "excess", 0.7),
        ("one_class", "0", "rest", "test", "relative_excess", 1.0),
        ("one_class", "1", "rest", "test", "relative_excess", 0.8),
        ("one_class", "0", "rest", "validation", "excess", 0.8),
        ("one_class", "1", "rest", "validation", "excess", 0.7),
        ("one_class", "0", "rest", "validation", "relative_excess", 0.9),
        ("one_class", "1", "rest", "validation", "relative_excess", 0.5),
        ("one_class", "0", "rest", "validation", "entropy", 1.0),
    ]
    table = pd.DataFrame(rows, columns=["protocol", "normal", "outlier", "split", "score", "auroc"])
    with caplog.at_level("INFO"):
        found = summarise_anomalies(scores, table, calibration, summary)
    assert "one_class 0.900 and 0.800 (1 against rest)" in caplog.text
    assert found["test"] == {"n_images": 4, "flagged": 0.25}
    assert found["auroc"]["one_class"]["excess"] == {
        "mean": pytest.approx(0.8),
        "worst": 0.7,
        "worst_is": "1 against rest",
        "comparisons": 2,
    }
    assert found["best_on_validation"] == {"one_class": "excess"}, "not by the test images"
    assert found["model_version"] == summary["model_version"]
