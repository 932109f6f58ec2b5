"""Nodes of the pipeline `anomaly` on models and images that are made for them."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mnist_vae.data.images import concatenate
from mnist_vae.data.picture_archive import PictureArchiveDataset
from mnist_vae.params import AnomalyParams
from mnist_vae.pipelines.anomaly import nodes
from mnist_vae.pipelines.anomaly.nodes import (
    SCORES,
    calibrate_anomalies,
    describe_anomalies,
    score_anomalies,
)
from tests.model_files import summary_of
from tests.vae.test_anomalies import calibration_of


@pytest.fixture(scope="module")
def parts(make_images):
    return [make_images(60), make_images(40, "validation", 60), make_images(30, "test", 100)]


@pytest.fixture(scope="module")
def summary(networks, parts):
    return summary_of(networks, *parts[:2], statement="Trained on 60 images.")


@pytest.fixture(scope="module")
def calibration(networks, parts, summary):
    return calibrate_anomalies(*networks, *parts[:2], summary, AnomalyParams(), 1)


@pytest.fixture(scope="module")
def scored(networks, parts, summary, calibration):
    """A function that scores images, by default those of the test split."""

    def score(images=parts[2], calibration=calibration, **params):
        params = AnomalyParams(**{"refine_steps": 1, **params})
        return score_anomalies(*networks, parts[0], images, summary, calibration, params, 1)

    return score


def test_the_threshold_is_of_the_model_in_use(calibration, summary):
    assert calibration.model_version == summary["model_version"]
    assert (calibration.score, calibration.false_positive_rate) == ("relative_excess", 0.05)
    assert calibration.n_validation == 40


@pytest.mark.parametrize("labelled", [True, False])
def test_images_without_a_label_are_a_class_only_where_no_image_has_one(
    networks, parts, calibration, make_images, labelled
):
    """As a batch without labels has them, among images that have one."""
    known = make_images(60, labelled=labelled)
    train = concatenate([known, make_images(30, "train", 60, labelled=False)])
    summary = summary_of(networks, train, parts[1])
    mixed = calibrate_anomalies(*networks, train, parts[1], summary, AnomalyParams(), 1)
    assert len(mixed.latent_means) == (10 if labelled else 1)
    assert (mixed.latent_means == calibration.latent_means) is labelled


def test_there_is_one_row_an_image_with_every_score(scored, parts, calibration):
    table = scored()
    frame = table.to_pandas()
    assert frame["image_id"].tolist() == parts[2].image_id.tolist()
    assert list(frame.columns) == [
        *("image_id", "split", "label"),
        *SCORES,
        *("is_anomaly", "model_version"),
    ]
    above = frame["relative_excess"].astype(float) > calibration.threshold
    assert frame["is_anomaly"].tolist() == above.tolist()
    excess = (frame["negative_elbo"] - frame["entropy"]).to_numpy()
    assert frame["excess"].to_numpy() == pytest.approx(excess, rel=1e-4)
    about = {"model_version": calibration.model_version, **calibration.about()}
    assert table.schema.metadata == {k.encode(): str(v).encode() for k, v in about.items()}


def test_the_distance_is_that_to_the_nearest_training_image(scored, networks, parts):
    table = scored(neighbours=1).to_pandas()
    train, test = (np.asarray(networks[0](part.model_input())[0]) for part in (parts[0], parts[2]))
    distances = np.linalg.norm(test[:, np.newaxis] - train, axis=2).min(axis=1)
    assert table["knn_distance"].to_numpy() == pytest.approx(distances, rel=1e-3, abs=1e-5)


def test_the_regret_is_what_the_refinement_gains(scored, networks, parts):
    from mnist_vae.vae.elbo import score_batches
    from mnist_vae.vae.inference import Refiner

    table = scored(refine_steps=5).to_pandas()
    both = [None, Refiner(networks[1], steps=5, seed=1)]
    how = {"reconstruction": "binary_crossentropy", "seed": 1, "refines": both}
    ((_, own, refined),) = score_batches(*networks, [parts[2].model_input()], **how)
    gain = own.negative_elbo - refined.negative_elbo
    assert table["likelihood_regret"].to_numpy() == pytest.approx(gain, abs=2e-3)
    assert gain.mean() > 0


def test_the_size_of_a_batch_changes_nothing_but_rounding(scored, monkeypatch):
    whole = scored().to_pandas()
    monkeypatch.setattr(nodes, "BATCH_SIZE", 20)
    in_parts = scored().to_pandas()
    for name in SCORES:
        assert in_parts[name].to_numpy() == pytest.approx(whole[name].to_numpy(), rel=1e-3)


@pytest.mark.slow
def test_the_exact_likelihood_is_a_column_where_it_is_asked_for(scored):
    table = scored(exact=True).to_pandas()
    # −ELBO at one draw of z; its mean over the draws is above −log p(x).
    gap = table["negative_elbo"] - table["negative_log_likelihood"]
    assert 0 < gap.mean() < 5


def test_new_images_are_an_array_or_a_folder_of_pictures_without_labels(scored, tmp_path):
    shades = {"a/1.png": 50, "a/3.png": 150, "b/2.png": 100}
    for name, shade in shades.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 40), shade, np.uint8)).save(tmp_path / name)
    entry = PictureArchiveDataset(path=str(tmp_path), image_size=28)
    pictures = scored(entry.load()).to_pandas()
    assert pictures["file"].tolist() == list(shades)
    assert pictures.columns[:4].tolist() == ["image_id", "split", "file", "negative_elbo"]
    grey = np.stack([np.full((28, 28), shade, np.uint8) for shade in shades.values()])
    array = scored(grey).to_pandas()
    assert set(array["split"]) == set(pictures["split"]) == {"new"}
    assert array.equals(pictures.drop(columns="file"))
    with pytest.raises(ValueError, match=r"must be uint8 \[n, height, width\]"):
        scored(grey.reshape(3, 784))


def test_scores_by_the_threshold_of_another_model_are_refused(scored, calibration):
    other = calibration.model_copy(update={"model_version": "other"})
    with pytest.raises(ValueError, match=r"of another model: expected those of .*--pipelines anom"):
        scored(calibration=other)


SUMMARY = {"model_version": "m", "statement": "Trained on 40 images.", "release": "000001-m"}


def described(images, values, **params):
    values = np.asarray(values, np.float32)
    scores = pd.DataFrame({"relative_excess": values, "is_anomaly": values > 1})
    return describe_anomalies(scores, images, SUMMARY, calibration_of(), AnomalyParams(**params))


def test_the_sheet_has_both_ends_in_order(make_images, monkeypatch):
    drawn = {}

    def draw(pixels, *texts, **options):
        drawn.update(pixels=pixels, **options)
        return sheet(pixels, *texts, **options)

    sheet = nodes.sheet
    monkeypatch.setattr(nodes, "sheet", draw)
    images = make_images(30)
    scores = np.random.default_rng(0).permutation(30) / 10
    metrics, picture, findings = described(images, scores, sheet_images=24)
    order, grey, shown = np.argsort(-scores), images.pictures, drawn["pixels"]
    assert len(shown) == 40, "two rows of ten for twelve images, twice"
    assert np.array_equal(shown[:12], grey[order[:12]])
    assert not shown[12:20].any()
    assert np.array_equal(shown[20:32], grey[order[18:]])
    assert drawn["row_breaks"] == (2,)
    assert picture.info["release"] == "000001-m"
    most = ["most: 2.90 to 2.00", "most: 1.90 to 1.80"]
    assert drawn["row_names"] == [*most, "least: 1.10 to 0.20", "least: 0.10 to 0.00"]
    assert metrics["test"] == {"n_images": 30, "flagged": 19 / 30}
    assert (metrics["model_version"], metrics["threshold"]) == ("m", 1.0)
    assert findings.sections[0].blocks[0].text == (
        "An image is an anomaly where its relative_excess is above 1.00, which was chosen so that "
        "5.0% of the validation images are: 19 of 30 test images (63.3%)."
    )
    assert findings.release == "000001-m"


@pytest.mark.parametrize("n", [1, 2, 7])
def test_few_images_are_drawn_too(n, make_images):
    _, picture, _ = described(make_images(n), np.arange(n))
    assert picture.size[0] > 500
