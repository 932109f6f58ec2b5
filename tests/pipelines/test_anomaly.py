"""How unusual images are; `tests/vae/test_anomalies.py` has each score worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from mnist_vae.data.images import ImageArchive, concatenate, new_image_set
from mnist_vae.params import AnomalyParams
from mnist_vae.pipelines.anomaly import nodes
from mnist_vae.pipelines.anomaly.nodes import SCORES
from mnist_vae.vae import likelihood
from mnist_vae.vae.elbo import score_batches
from mnist_vae.vae.inference import Refiner
from tests.incoming import images_of
from tests.model_files import calibration_of, summary_of


def calibrate(networks, splits, summary):
    return nodes.calibrate_anomalies(*networks, *splits[:2], summary, AnomalyParams(), 1)


@pytest.fixture(scope="module")
def calibration(networks, splits, summary):
    return calibrate(networks, splits, summary)


@pytest.fixture
def scored(networks, splits, summary, calibration, monkeypatch):
    """A function that scores images, by default those of the test split, 20 at a time."""
    monkeypatch.setattr(nodes, "BATCH_SIZE", 20)

    def score(images=splits[2], calibration=calibration, **params):
        params = AnomalyParams(**{"refine_steps": 1, **params})
        return nodes.score_anomalies(*networks, splits[0], images, summary, calibration, params, 1)

    return score


@pytest.mark.parametrize("labelled", [True, False])
def test_a_batch_without_labels_is_no_class(networks, splits, calibration, make_images, labelled):
    """But among images of which none has one."""
    some = make_images(60, labelled=labelled), make_images(30, "train", 100, labelled=False)
    mixed = [concatenate(some), splits[1]]
    found = calibrate(networks, mixed, summary_of(networks, *mixed))
    assert len(found.latent_means) == (10 if labelled else 1)
    assert (found.latent_means == calibration.latent_means) is labelled


def test_each_image_has_a_row_with_every_score(scored, splits, calibration, summary):
    assert calibration.model_version == summary["model_version"]
    table = scored()
    frame = table.to_pandas()
    assert frame["image_id"].tolist() == splits[2].image_id.tolist()
    known, last = ["image_id", "split", "label"], ["is_anomaly", "model_version"]
    assert list(frame.columns) == [*known, *SCORES, *last]
    above = frame["relative_excess"].astype(float) > calibration.threshold
    assert frame["is_anomaly"].tolist() == above.tolist()
    about = {"model_version": calibration.model_version, **calibration.about()}
    assert table.schema.metadata == {k.encode(): str(v).encode() for k, v in about.items()}


def test_the_distance_is_that_to_the_nearest_training_image(scored, networks, splits):
    table = scored(neighbours=1).to_pandas()
    train, _, test = (networks[0](images.model_input())[0].numpy() for images in splits)
    distances = np.linalg.norm(test[:, np.newaxis] - train, axis=2).min(axis=1)
    assert table["knn_distance"].to_numpy() == pytest.approx(distances, rel=1e-3, abs=1e-5)


def test_the_regret_is_what_the_refinement_gains(scored, networks, splits):
    table = scored(refine_steps=5).to_pandas()
    both = [None, Refiner(networks[1], steps=5, seed=1)]
    how = {"reconstruction": "binary_crossentropy", "seed": 1, "refines": both}
    ((_, own, refined),) = score_batches(*networks, [splits[2].model_input()], **how)
    gain = own.negative_elbo - refined.negative_elbo
    assert table["likelihood_regret"].to_numpy() == pytest.approx(gain, abs=2e-3)
    assert gain.mean() > 0


def test_the_exact_likelihood_is_a_column_where_it_is_asked_for(scored, monkeypatch):
    monkeypatch.setitem(likelihood._STEPS, 2, 0.1)  # of the sum over z: a fortieth of the time
    table = scored(exact=True).to_pandas()
    # −ELBO at one draw of z; its mean over the draws is above −log p(x).
    gap = table["negative_elbo"] - table["negative_log_likelihood"]
    assert 0 < gap.mean() < 5


def test_new_images_are_scored_without_labels_and_with_the_names_of_their_files(scored):
    scans, files = images_of(3), ["a/1.png", "a/3.png", "b/2.png"]
    array = scored(scans).to_pandas()
    assert set(array["split"]) == {"new"}
    pictures = scored(ImageArchive(new_image_set(scans, files=files), {})).to_pandas()
    assert pictures.columns[:4].tolist() == ["image_id", "split", "file", "negative_elbo"]
    assert pictures["file"].tolist() == files
    assert array.equals(pictures.drop(columns="file"))


def test_scores_by_the_threshold_of_another_model_are_refused(scored, calibration):
    other = calibration.model_copy(update={"model_version": "other"})
    with pytest.raises(ValueError, match=r"of another model: expected those of .*--pipelines anom"):
        scored(calibration=other)


def described(images, values, **params):
    values = np.asarray(values, np.float32)
    scores = pd.DataFrame({"relative_excess": values, "is_anomaly": values > 1})
    summary = {"model_version": "m", "statement": "Trained on 40 images.", "release": "000001-m"}
    params = AnomalyParams(**params)
    return nodes.describe_anomalies(scores, images, summary, calibration_of(), params)


def test_the_sheet_has_both_ends_in_order(splits, drawn):
    scores = np.random.default_rng(0).permutation(30) / 10
    metrics, picture, findings = described(splits[2], scores, sheet_images=24)
    ((grid, captions),) = drawn
    assert grid.shape[:2] == (4, 10), "two rows of ten for twelve images, twice"
    shown, ordered = grid.reshape(40, 28, 28), splits[2].pictures[np.argsort(-scores)]
    assert np.array_equal(shown[:12], ordered[:12])
    assert not shown[12:20].any()
    assert np.array_equal(shown[20:32], ordered[18:])
    assert captions.row_breaks == (2,)
    most = ["most: 2.90 to 2.00", "most: 1.90 to 1.80"]
    assert captions.row_names == [*most, "least: 1.10 to 0.20", "least: 0.10 to 0.00"]
    assert metrics["test"] == {"n_images": 30, "flagged": 19 / 30}
    assert (metrics["model_version"], metrics["threshold"]) == ("m", 1.0)
    assert findings.sections[0].blocks[0].text == (
        "An image is an anomaly where its relative_excess is above 1.00, which was chosen so that "
        "5.0% of the validation images are: 19 of 30 test images (63.3%)."
    )
    assert picture.info["release"] == findings.release == "000001-m"
