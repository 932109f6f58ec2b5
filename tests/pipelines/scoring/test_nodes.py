"""Batches are embedded once by each model, and a reader finds all of the old or all of the new."""

import gc
import logging
import os
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from mnist_vae.data.files import RecordDataset
from mnist_vae.data.origin import fingerprint
from mnist_vae.jobs import batches as batches_module
from mnist_vae.jobs.batch_embeddings import BatchEmbeddingsDataset, finish
from mnist_vae.jobs.batches import BatchFoldersDataset, put_away
from mnist_vae.jobs.linked_folders import LinkedFolders
from mnist_vae.jobs.records import Outcome
from mnist_vae.params import EmbeddingParams
from mnist_vae.pipelines.embedding.nodes import embed_new_images
from mnist_vae.pipelines.scoring.pipeline import create_pipeline
from mnist_vae.vae.anomalies import Calibration
from mnist_vae.vae.networks import build_decoder, build_encoder
from tests.incoming import images_of, put

PARAMS = EmbeddingParams(batch_size=4)


@pytest.fixture(scope="module")
def models():
    """Two models, as the networks and the summary of each."""

    def model(seed):
        encoder = build_encoder(latent_dim=2, hidden_units=(8,), seed=seed)
        decoder = build_decoder(latent_dim=2, hidden_units=(8,), seed=seed)
        summary = {
            "model_version": fingerprint(encoder, decoder),
            "weights": {network.name: fingerprint(network) for network in (encoder, decoder)},
            "reconstruction": "binary_crossentropy",
        }
        return encoder, decoder, summary

    return {"000001-old": model(1), "000002-new": model(2)}


OLD, NEW = "000001-old", "000002-new"


class Killed(BaseException):
    """What nothing catches, as nothing does a kill."""


class Place:
    """The folders of a project, and runs of the pipeline on them."""

    calibration = None
    params = PARAMS

    def __init__(self, root, models):
        self.root, self.models = root, models
        self.to_embed = root / "to_embed"
        self.folder = root / "embeddings"

    def record(self, name, **options):
        path = str(self.root / f"{name}.json")
        return RecordDataset(record=f"mnist_vae.jobs.records.{name}", filepath=path, **options)

    def catalog(self, release, named=True):
        encoder, decoder, summary = self.models[release]
        embeddings = str(self.folder)
        values = {
            "encoder": encoder,
            "decoder": decoder,
            "training_summary": {**summary, "release": release} if named else summary,
            "params:embedding": self.params,
            "scoring_calibration": self.calibration,
            "params:seed": 1,
        }
        return DataCatalog(
            {
                **{
                    name: MemoryDataset(value, copy_mode="assign") for name, value in values.items()
                },
                "scoring_plan": self.record("ScoringPlan"),
                "scoring_intake": self.record("Intake"),
                "scoring_result": self.record("Scored"),
                "batches_to_embed": BatchFoldersDataset(
                    path=str(self.to_embed), settle_seconds=0.0
                ),
                "earlier_batch_embeddings": BatchEmbeddingsDataset(path=embeddings),
                "batch_embeddings": BatchEmbeddingsDataset(path=embeddings),
            }
        )

    def score(self, release=OLD, keep=3, **kwargs):
        """Do what `kedro score` does, and return the plan, how it ended and the records."""
        catalog = self.catalog(release, **kwargs)
        SequentialRunner().run(create_pipeline().to_outputs("scoring_plan"), catalog)
        plan = catalog.load("scoring_plan")
        if plan.outcome is not None:
            return SimpleNamespace(plan=plan, outcome=plan.outcome, reason=plan.reason, records={})
        SequentialRunner().run(create_pipeline(), catalog)
        intake = catalog.load("scoring_intake")
        put_away(intake, self.to_embed, self.root / "quarantine")
        scored = catalog.load("scoring_result")
        finish(self.folder, scored.model, complete=scored.complete, keep=keep)
        return SimpleNamespace(
            plan=plan, records=intake.batches, outcome=scored.outcome, reason=scored.reason
        )

    def found(self):
        """What a reader finds that follows the link once: the rows of each batch."""
        current = Path(os.path.realpath(self.folder / "current"))
        return {path.stem: pd.read_parquet(path) for path in sorted(current.glob("*.parquet"))}

    def versions(self):
        """The model of each batch that a reader finds, by its release."""
        names = {summary["model_version"]: name for name, (*_, summary) in self.models.items()}
        return {
            name: {names[version] for version in table["model_version"]}.pop()
            for name, table in self.found().items()
        }

    def times(self):
        return {str(path): path.stat().st_mtime_ns for path in self.folder.rglob("*.parquet")}


@pytest.fixture
def place(tmp_path, models):
    return Place(tmp_path, models)


def outcomes(result):
    return {name: record.outcome for name, record in result.records.items()}


def test_without_batches_there_is_nothing_to_do(place):
    result = place.score()
    assert result.outcome == Outcome.NOTHING_NEW
    assert result.reason == f"{OLD} has embedded all 0 batches that are there"
    assert not place.folder.exists()


def test_a_batch_is_embedded_once_and_a_new_one_is_added_to_it(place):
    put(place.to_embed, "monday", images_of(5))
    result = place.score()
    assert (result.outcome, outcomes(result)) == (Outcome.SCORED, {"monday": "embedded"})
    assert place.versions() == {"monday": OLD}
    before = place.times()
    assert place.score().outcome == Outcome.NOTHING_NEW
    assert place.times() == before
    put(place.to_embed, "tuesday", images_of(6, seed=1))
    assert outcomes(place.score()) == {"tuesday": "embedded"}
    assert place.versions() == {"monday": OLD, "tuesday": OLD}
    assert place.times() | before == place.times()


def test_the_rows_are_those_of_embed_new_images(place, models):
    images, labels = images_of(9), np.arange(9, dtype=np.uint8)
    put(place.to_embed, "labelled", images, labels)
    put(place.to_embed, "unlabelled", images)
    place.score()
    encoder, decoder, summary = models[OLD]
    expected = embed_new_images(encoder, decoder, images, summary, PARAMS, 1).to_pandas()
    tables = place.found()
    for table in tables.values():
        pd.testing.assert_frame_equal(table.drop(columns="label"), expected)
    assert tables["unlabelled"]["label"].isna().all()
    assert tables["labelled"]["label"].tolist() == labels.tolist()
    assert len(pd.read_parquet(place.folder / OLD)) == 18, "as one table"


def test_a_release_refines_as_its_own_embeddings_were_whatever_the_parameters_say(place, models):
    put(place.to_embed, "monday", images_of(5))
    encoder, decoder, summary = models[OLD]
    place.models = {OLD: (encoder, decoder, {**summary, "refine_steps": 2})}
    place.score()
    monday = place.found()["monday"]
    place.params = EmbeddingParams(batch_size=4, refine_steps=9)
    assert place.score().outcome == Outcome.NOTHING_NEW
    put(place.to_embed, "tuesday", images_of(5))
    place.score()
    columns = ["z_mean_00", "z_mean_01", "kl"]
    pd.testing.assert_frame_equal(place.found()["tuesday"][columns], monday[columns])


def test_with_another_refinement_the_last_trained_model_embeds_all_batches_again(place):
    put(place.to_embed, "monday", images_of(5))
    place.score(named=False)
    place.params = EmbeddingParams(batch_size=4, refine_steps=2)
    put(place.to_embed, "tuesday", images_of(5, seed=1))
    result = place.score(named=False)
    assert outcomes(result) == {"monday": "embedded", "tuesday": "embedded"}


def test_the_last_trained_model_has_a_folder_of_its_version(place, models):
    put(place.to_embed, "monday", images_of(5))
    result = place.score(named=False)
    version = models[OLD][2]["model_version"]
    assert (result.plan.release, result.plan.model) == (None, version)
    assert (place.folder / "current").readlink() == Path(version)
    assert place.score(named=False).outcome == Outcome.NOTHING_NEW
    assert place.score(named=True).outcome == Outcome.SCORED, "as a release it is another folder"


def test_after_a_promotion_all_are_embedded_anew_and_after_a_rollback_none_is(place):
    for seed, name in enumerate(("monday", "tuesday")):
        put(place.to_embed, name, images_of(5, seed))
    place.score()
    assert outcomes(place.score(NEW)) == {"monday": "embedded", "tuesday": "embedded"}
    assert place.versions() == {"monday": NEW, "tuesday": NEW}
    assert place.score(NEW).outcome == Outcome.NOTHING_NEW
    put(place.to_embed, "wednesday", images_of(5, 2))
    place.score(NEW)
    before = place.times()
    back = place.score(OLD)
    assert outcomes(back) == {"wednesday": "embedded"}, "which the old one had not seen"
    assert place.times() | before == place.times()
    assert place.versions() == {"monday": OLD, "tuesday": OLD, "wednesday": OLD}
    there = place.score(NEW)
    assert (outcomes(there), there.outcome) == ({}, Outcome.SCORED)
    assert "readers find its embeddings from now on" in there.reason
    assert set(place.versions().values()) == {NEW}


@pytest.mark.parametrize("after", [1, 2])
def test_a_run_killed_between_two_batches_leaves_all_of_the_old_model(place, monkeypatch, after):
    names = ["friday", "monday", "tuesday"]
    for seed, name in enumerate(names):
        put(place.to_embed, name, images_of(5, seed))
    place.score()
    read, reads = batches_module.read_batch, []

    def die(folder, **kwargs):
        reads.append(folder)
        if len(reads) > after:
            raise Killed
        return read(folder, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(batches_module, "read_batch", die)
        with pytest.raises(Killed):
            place.score(NEW)
    assert len(list((place.folder / NEW).iterdir())) == after
    assert place.versions() == dict.fromkeys(names, OLD)
    assert outcomes(place.score(NEW)) == dict.fromkeys(names[after:], "embedded")
    assert place.versions() == dict.fromkeys(names, NEW)


def test_a_run_killed_before_the_link_is_moved_leaves_that_to_the_next(place, monkeypatch):
    put(place.to_embed, "monday", images_of(5))
    place.score()

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(LinkedFolders, "show", die)
        with pytest.raises(Killed):
            place.score(NEW)
    assert place.versions() == {"monday": OLD}
    result = place.score(NEW)
    assert (outcomes(result), result.outcome) == ({}, Outcome.SCORED)
    assert place.versions() == {"monday": NEW}


def test_a_batch_that_is_delivered_again_is_embedded_again(place):
    put(place.to_embed, "monday", images_of(5))
    put(place.to_embed, "tuesday", images_of(5))
    place.score()
    put(place.to_embed, "monday", images_of(7, seed=1))
    assert outcomes(place.score()) == {"monday": "embedded"}
    assert {name: len(table) for name, table in place.found().items()} == {
        "monday": 7,
        "tuesday": 5,
    }


def test_what_was_embedded_of_a_batch_stays_when_its_folder_is_removed(place):
    put(place.to_embed, "monday", images_of(5))
    put(place.to_embed, "tuesday", images_of(5))
    place.score()
    for path in (place.to_embed / "monday").iterdir():
        path.unlink()
    (place.to_embed / "monday").rmdir()
    assert place.score().outcome == Outcome.NOTHING_NEW
    assert place.versions() == {"monday": OLD, "tuesday": OLD}
    place.score(NEW)
    assert place.versions() == {"tuesday": NEW}, "there is nothing to embed it from"


def calibration_of(models, release, threshold=3.0, **more):
    return Calibration(
        model_version=models[release][2]["model_version"],
        reconstruction="binary_crossentropy",
        score="excess",
        false_positive_rate=0.05,
        threshold=threshold,
        n_validation=10,
        entropy_cap=100.0,
        latent_means=((0.0, 0.0),),
        latent_precision=((1.0, 0.0), (0.0, 1.0)),
        **more,
    )


def test_a_calibrated_model_says_which_images_are_anomalies(place, models):
    """Of noise and of a blank image, one of the two is above a threshold between their scores."""
    images = images_of(9)
    images[4] = 0
    put(place.to_embed, "monday", images)
    put(place.to_embed, "tuesday", images_of(5, seed=1))
    place.calibration = calibration_of(models, OLD, threshold=0.0)
    result = place.score()
    scores = place.found()["monday"]["anomaly_score"]
    assert scores.dtype == np.float32
    place.calibration = calibration_of(models, OLD, threshold=float(np.sort(scores)[6]))
    result = place.score()
    table = place.found()["monday"]
    assert table["is_anomaly"].sum() == 2
    np.testing.assert_array_equal(table["is_anomaly"], scores > place.calibration.threshold)
    other = int(place.found()["tuesday"]["is_anomaly"].sum())
    assert {name: record.anomalous_images for name, record in result.records.items()} == {
        "monday": 2,
        "tuesday": other,
    }
    assert result.reason.startswith(f"{OLD} has embedded 2 batches, 14 images, {2 + other} of them")
    metadata = pq.read_schema(place.folder / OLD / "monday.parquet").metadata
    assert metadata[b"score"] == b"excess"
    assert float(metadata[b"threshold"]) == place.calibration.threshold


def test_the_scores_are_minus_elbo_less_the_entropy_as_the_embeddings_have_it(place, models):
    images = images_of(9)
    put(place.to_embed, "monday", images)
    place.calibration = calibration_of(models, OLD)
    place.score()
    table = place.found()["monday"]
    pixels = np.clip(images.reshape(9, -1) / 255, 1e-12, 1 - 1e-12)
    entropy = -(pixels * np.log(pixels) + (1 - pixels) * np.log(1 - pixels)).sum(axis=1)
    excess = table["reconstruction"] + table["kl"] - entropy
    # The draws of z are others: they are drawn for other batches of images.
    np.testing.assert_allclose(table["anomaly_score"], excess, rtol=0.05)


def test_all_files_of_a_model_have_the_same_columns_and_one_threshold(place, models):
    put(place.to_embed, "monday", images_of(5))
    put(place.to_embed, "tuesday", images_of(5, seed=1))
    place.score()
    assert "anomaly_score" not in place.found()["monday"]
    place.calibration = calibration_of(models, OLD)
    put(place.to_embed, "wednesday", images_of(5, seed=2))
    assert set(outcomes(place.score())) == {"monday", "tuesday", "wednesday"}
    assert all("is_anomaly" in table for table in place.found().values())
    assert place.score().outcome == Outcome.NOTHING_NEW
    place.calibration = calibration_of(models, OLD, threshold=4.0)
    assert set(outcomes(place.score())) == {"monday", "tuesday", "wednesday"}
    assert len(pd.read_parquet(place.folder / OLD)) == 15, "as one table"


def test_a_release_without_a_threshold_and_one_with_it_take_turns(place, models):
    """An old release in service, the promotion of one with a threshold, and a rollback."""
    put(place.to_embed, "monday", images_of(5))
    place.score(OLD)
    calibrated = calibration_of(models, NEW)
    place.calibration = calibrated
    put(place.to_embed, "tuesday", images_of(5, seed=1))
    promoted = place.score(NEW)
    assert all("is_anomaly" in table for table in place.found().values())
    assert promoted.records["monday"].anomalous_images is not None
    place.calibration = None
    back = place.score(OLD)
    assert set(back.records) == {"tuesday"}
    assert (back.outcome, back.records["tuesday"].anomalous_images) == (Outcome.SCORED, None)
    assert "anomalies" not in back.reason
    assert place.versions() == {"monday": OLD, "tuesday": OLD}
    assert not any("is_anomaly" in table for table in place.found().values())
    assert place.score(OLD).outcome == Outcome.NOTHING_NEW
    place.calibration = calibrated
    again = place.score(NEW)
    assert (again.outcome, again.records) == (Outcome.SCORED, {})
    assert all("is_anomaly" in table for table in place.found().values())


def test_the_threshold_of_another_model_is_not_applied(place, models):
    put(place.to_embed, "monday", images_of(5))
    place.calibration = calibration_of(models, NEW)
    result = place.score()
    assert "anomaly_score" not in place.found()["monday"]
    assert result.records["monday"].anomalous_images is None
    assert result.reason.startswith(f"{OLD} has embedded 1 batches, 5 images; ")


def stranger(folder, kind):
    """Leave what nobody can read."""
    folder.mkdir(parents=True)
    match kind:
        case "text":
            (folder / "read me.txt").write_text("hello")
        case "half":
            path = put(folder.parent, folder.name, images_of(3)) / "images-idx3-ubyte.gz"
            path.write_bytes(path.read_bytes()[:200])
        case "picture":
            (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        case "pipe":
            os.mkfifo(folder / "pipe")
        case "link":
            (folder / "images").symlink_to("nowhere")
        case "large":
            put(folder.parent, folder.name, np.zeros((2, 32, 32), np.uint8))
        case "labels":
            put(folder.parent, folder.name, images_of(3), np.zeros(4, np.uint8))


@pytest.mark.parametrize("kind", ["text", "half", "picture", "pipe", "link", "large", "labels"])
def test_a_bad_batch_is_put_aside_whole_and_the_others_are_embedded(place, kind):
    put(place.to_embed, "good", images_of(5))
    put(place.to_embed, "zebra", images_of(5, 1))
    place.score()
    stranger(place.to_embed / "bad", kind)
    result = place.score(NEW)
    assert result.outcome == Outcome.BAD_DATA
    assert "these are bad and in quarantine: bad" in result.reason
    assert outcomes(result) == {"bad": "bad", "good": "embedded", "zebra": "embedded"}
    assert place.versions() == {"good": NEW, "zebra": NEW}
    assert (place.root / "quarantine/bad.json").is_file()
    assert not (place.to_embed / "bad").exists()


def test_readers_go_on_with_the_old_model_while_a_batch_is_written(place, monkeypatch):
    for seed, name in enumerate(("monday", "tuesday")):
        put(place.to_embed, name, images_of(5, seed))
    place.score()
    read = batches_module.read_batch

    def write_on(folder, **kwargs):
        if folder.name == "tuesday":
            (folder / "more").touch()
        return read(folder, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(batches_module, "read_batch", write_on)
        result = place.score(NEW)
    assert outcomes(result) == {"monday": "embedded", "tuesday": "unfinished"}
    assert result.outcome == Outcome.SCORED
    assert f"readers find the embeddings of {OLD} until these are embedded" in result.reason
    assert place.versions() == {"monday": OLD, "tuesday": OLD}
    (place.to_embed / "tuesday/more").unlink()
    assert outcomes(place.score(NEW)) == {"tuesday": "embedded"}
    assert place.versions() == {"monday": NEW, "tuesday": NEW}


def test_only_what_is_still_being_written_is_nothing_new(place, monkeypatch):
    put(place.to_embed, "monday", images_of(5))
    monkeypatch.setattr(
        batches_module,
        "read_batch",
        lambda folder, **_: (folder / str(len(list(folder.iterdir())))).touch(),
    )
    result = place.score()
    assert (outcomes(result), result.outcome) == ({"monday": "unfinished"}, Outcome.NOTHING_NEW)


ODD = [
    "x" * 255,
    "a\nb",
    os.fsdecode(b"caf\xe9"),
    "**[a]?",
    "20240601",
    "a.b",
    "current",
    "漢" * 80,
]


def test_batches_of_any_name_are_embedded_once(place, caplog):
    caplog.set_level(logging.INFO)
    for seed, name in enumerate(ODD):
        put(place.to_embed, name, images_of(2, seed))
    assert set(outcomes(place.score()).values()) == {"embedded"}
    assert len(place.found()) == len(ODD)
    assert place.score().outcome == Outcome.NOTHING_NEW
    for name in ("x" * 255, "a\nb"):
        put(place.to_embed, name, images_of(3))
    assert len(place.score().records) == 2
    assert "a\nb" not in caplog.text


@pytest.mark.parametrize("name", [".monday", "monday.part", "monday.partial", "monday.tmp"])
def test_a_batch_that_is_on_its_way_is_left_alone(place, name):
    put(place.to_embed, name, images_of(2))
    assert place.score().outcome == Outcome.NOTHING_NEW


def test_one_batch_at_a_time_is_in_memory(place, monkeypatch):
    for seed in range(4):
        put(place.to_embed, f"batch-{seed}", images_of(20, seed))
    read, alive = batches_module.read_batch, []

    def watched(folder, **kwargs):
        gc.collect()
        assert not any(reference() is not None for reference in alive)
        batch = read(folder, **kwargs)
        alive.append(weakref.ref(batch.images))
        return batch

    monkeypatch.setattr(batches_module, "read_batch", watched)
    place.score()
    assert len(alive) == 4


def test_networks_that_the_summary_does_not_tell_of_embed_nothing(place, models):
    put(place.to_embed, "monday", images_of(5))
    place.models = {OLD: (*models[OLD][:2], models[NEW][2])}
    with pytest.raises(ValueError, match="does not belong to the training summary"):
        place.score()
    assert not (place.folder / OLD).exists()
