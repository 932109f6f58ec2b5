"""Embeddings compared with the encoder itself, and batches that each model embeds once."""

import gc
import os
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mnist_vae.engines import embed
from mnist_vae.jobs import batches as batches_module
from mnist_vae.jobs.batch_embeddings import BatchEmbeddingsDataset, finish
from mnist_vae.jobs.names import file_name, printable
from mnist_vae.jobs.records import Outcome
from mnist_vae.params import EmbeddingParams
from mnist_vae.pipelines.embedding import nodes
from mnist_vae.vae.elbo import score_batches
from tests.incoming import dataset, images_of, put
from tests.model_files import calibration_of, summary_of
from tests.vae.models import small

LATENTS = ["z_mean_00", "z_mean_01", "z_log_var_00", "z_log_var_01"]


@pytest.fixture
def embedded(networks, summary):
    """A function that embeds sets of images, four at a time."""
    params = EmbeddingParams(batch_size=4)
    return lambda *sets: embed(*networks, summary, params, 1, *sets).to_pandas()


def test_each_image_of_every_split_has_its_row(networks, splits, embedded):
    table = embedded(*splits)
    known = ["image_id", "split", "label"]
    assert list(table.columns) == [*known, *LATENTS, "reconstruction", "kl", "model_version"]
    for name in known:
        expected = np.concatenate([getattr(images, name) for images in splits])
        assert table[name].tolist() == expected.tolist()
    assert table["z_mean_00"].dtype == np.float32
    for images in splits:
        rows = table[table["split"] == images.split[0]]
        how = {"reconstruction": "binary_crossentropy", "seed": 1}
        ((_, terms),) = score_batches(*networks, [images.model_input()], **how)
        expected = np.concatenate([terms.z_mean, terms.z_log_var], axis=1)
        assert rows[LATENTS].to_numpy() == pytest.approx(expected, abs=1e-5)
        assert rows["reconstruction"].to_numpy() == pytest.approx(terms.reconstruction, rel=1e-5)
        assert rows["kl"].to_numpy() == pytest.approx(terms.kl, rel=1e-4, abs=2e-7)


def test_named_classes_and_files_have_columns_of_their_own(embedded, splits):
    names, files = tuple("abcdefghié"), [f"é/{row}.png" for row in range(30)]
    table = embedded(replace(splits[2], class_names=names, file=np.array(files, object)))
    assert list(table.columns[:5]) == ["image_id", "split", "label", "class_name", "file"]
    assert table["file"].tolist() == files
    assert table["class_name"].tolist() == [names[label] for label in table["label"]]


def test_new_images_are_embedded_without_labels_and_of_one_form(embedded, networks):
    scans = images_of(6)
    table = embedded(scans)
    assert "label" not in table.columns
    assert set(table["split"]) == {"new"}
    expected = networks[0]((scans.reshape(6, 784) / 255).astype("float32"))[0].numpy()
    assert table["z_mean_01"].to_numpy() == pytest.approx(expected[:, 1], abs=1e-5)
    with pytest.raises(ValueError, match="must be uint8"):
        embedded(scans.reshape(6, 784))
    with pytest.raises(ValueError, match="expected 28 x 28 pixels, received 32 x 20"):
        embedded(np.zeros((4, 32, 20), np.uint8))


OLD, NEW = "000001-old", "000002-new"


class Place:
    """The folders of a project, two models, and runs of the nodes on them."""

    def __init__(self, root, networks):
        self.models = {OLD: networks, NEW: small()}
        self.summaries = {
            name: summary_of(networks, release=name) for name, networks in self.models.items()
        }
        self.to_embed, self.folder = root / "to_embed", root / "embeddings"
        self.embeddings = BatchEmbeddingsDataset(path=str(self.folder))
        self.how = {"scoring_calibration": None, "embedding_params": EmbeddingParams(batch_size=4)}

    def put(self, **sizes):
        """Put batches of random images in `to_embed`."""
        for name, size in sizes.items():
            put(self.to_embed, name, images_of(size, seed=len(name)))

    def plan(self, release=OLD):
        self.batches = dataset(self.to_embed).load()
        summary = self.summaries[release]
        return nodes.plan_scoring(self.batches, self.embeddings.load(), summary, **self.how)

    def score(self, release=OLD):
        """Do what `kedro score` does, and return how it ended and what became of the batches."""
        plan, model = self.plan(release), (*self.models[release], self.summaries[release])
        for tables, intake in nodes.embed_batches(plan, self.batches, *model, **self.how, seed=1):
            self.embeddings.save(tables)
            records = intake.batches
        scored = nodes.finish_scoring(plan, intake)
        finish(self.folder, plan.model, complete=scored.complete, keep=3)
        outcomes = {name: record.outcome for name, record in records.items()}
        return SimpleNamespace(**dict(scored), outcomes=outcomes, records=records)

    def found(self):
        """What a reader finds that follows the link once: the rows of each batch."""
        current = Path(os.path.realpath(self.folder / "current"))
        return {path.stem: pd.read_parquet(path) for path in sorted(current.glob("*.parquet"))}

    def releases(self):
        """The release of each batch that a reader finds."""
        names = {summary["model_version"]: name for name, summary in self.summaries.items()}
        tables = self.found().items()
        return {batch: names[table["model_version"].unique().item()] for batch, table in tables}

    def times(self):
        return {str(path): path.stat().st_mtime_ns for path in self.folder.rglob("*.parquet")}


@pytest.fixture
def place(tmp_path, networks):
    return Place(tmp_path, networks)


def test_a_batch_of_any_name_is_embedded_once_and_a_new_one_is_added_to_it(place, caplog):
    caplog.set_level("INFO")
    odd = os.fsdecode(b"**[a]?\nb\xff")
    nothing = place.plan()
    assert nothing.outcome == place.score().outcome == Outcome.NOTHING_NEW
    assert nothing.reason == f"{OLD} has embedded all 0 batches that are there"
    assert not place.folder.exists()
    place.put(**{odd: 5})
    assert place.plan().outcome is None
    result = place.score()
    assert (result.outcome, result.outcomes) == (Outcome.SCORED, {printable(odd): "embedded"})
    assert odd not in caplog.text
    before = place.times()
    assert place.plan().outcome == place.score().outcome == Outcome.NOTHING_NEW
    place.put(tuesday=6)
    assert place.score().outcomes == {"tuesday": "embedded"}
    assert place.releases() == {file_name(odd): OLD, "tuesday": OLD}
    assert place.times() | before == place.times()


def test_the_rows_are_those_of_embed_new_images(place, networks):
    images, labels = images_of(9), np.arange(9, dtype=np.uint8)
    put(place.to_embed, "labelled", images, labels)
    put(place.to_embed, "unlabelled", images)
    place.score()
    how = place.summaries[OLD], place.how["embedding_params"], 1
    expected = embed(*networks, *how, images).to_pandas()
    tables = place.found()
    for table in tables.values():
        pd.testing.assert_frame_equal(table.drop(columns="label"), expected)
    assert tables["unlabelled"]["label"].isna().all()
    assert tables["labelled"]["label"].tolist() == labels.tolist()
    assert len(pd.read_parquet(place.folder / OLD)) == 18, "as one table"


def test_another_refinement_embeds_anew_but_for_a_release_which_has_its_own(place):
    place.summaries[OLD]["refine_steps"] = 0
    place.put(monday=5)
    place.score(OLD)
    place.score(NEW)
    place.how["embedding_params"] = EmbeddingParams(refine_steps=9)
    assert (place.plan(OLD).new, place.plan(NEW).new) == ((), ("monday",))


def test_the_last_trained_model_has_a_folder_of_its_version(place):
    place.summaries[OLD]["release"] = None
    place.put(monday=5)
    place.score()
    version = place.summaries[OLD]["model_version"]
    assert (place.plan().release, place.plan().model) == (None, version)
    assert (place.folder / "current").readlink() == Path(version)
    assert place.plan().outcome == Outcome.NOTHING_NEW


def test_after_a_promotion_all_are_embedded_anew_and_after_a_rollback_none_is(place):
    place.put(monday=5, tuesday=5)
    place.score()
    assert set(place.score(NEW).outcomes) == {"monday", "tuesday"}
    assert place.releases() == {"monday": NEW, "tuesday": NEW}
    before = place.times()
    place.put(wednesday=5)
    assert set(place.score(OLD).outcomes) == {"wednesday"}, "which the old one had not seen"
    assert place.times() | before == place.times()
    assert place.releases() == {"monday": OLD, "tuesday": OLD, "wednesday": OLD}
    shutil.rmtree(place.to_embed / "wednesday")
    assert place.plan(NEW).outcome is None, "though it has embedded all"
    there = place.score(NEW)
    assert (there.outcomes, there.outcome) == ({}, Outcome.SCORED)
    assert "readers find its embeddings from now on" in there.reason
    assert place.releases() == {"monday": NEW, "tuesday": NEW}


def test_a_batch_delivered_again_is_embedded_again_and_one_that_left_stays_embedded(place):
    place.put(monday=5, tuesday=5)
    place.score()
    put(place.to_embed, "monday", images_of(7, seed=1))
    shutil.rmtree(place.to_embed / "tuesday")
    assert set(place.score().outcomes) == {"monday"}
    sizes = {name: len(table) for name, table in place.found().items()}
    assert sizes == {"monday": 7, "tuesday": 5}


def calibrate(place, release, threshold=3.0):
    version = place.summaries[release]["model_version"]
    found = calibration_of("excess", threshold, model_version=version)
    place.how["scoring_calibration"] = found


def test_the_threshold_of_the_model_and_no_other_says_which_images_are_anomalies(place):
    calibrate(place, NEW)
    place.put(monday=9, tuesday=5)
    assert place.score().records["monday"].anomalous_images is None
    assert "anomaly_score" not in place.found()["monday"]
    calibrate(place, OLD, threshold=0.0)
    place.score()
    scores = place.found()["monday"]["anomaly_score"]
    threshold = float(np.sort(scores)[6])
    calibrate(place, OLD, threshold)
    result, tables = place.score(), place.found()
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(tables["monday"]["is_anomaly"], scores > threshold)
    counts = {name: int(table["is_anomaly"].sum()) for name, table in tables.items()}
    assert counts["monday"] == 2
    assert {name: one.anomalous_images for name, one in result.records.items()} == counts
    said = f"{OLD} has embedded 2 batches, 14 images, {sum(counts.values())} of them anomalies"
    assert result.reason.startswith(said)
    metadata = pq.read_schema(place.folder / OLD / "monday.parquet").metadata
    assert (metadata[b"score"], float(metadata[b"threshold"])) == (b"excess", threshold)
    assert place.plan().outcome == Outcome.NOTHING_NEW


def when_read(patch, act):
    """Have something done with the folder and the images of each batch once they are read."""
    read = batches_module.read_batch

    def read_and_act(folder, **kwargs):
        batch = read(folder, **kwargs)
        act(folder, batch.images)
        return batch

    patch.setattr(batches_module, "read_batch", read_and_act)


def test_readers_find_the_old_model_while_a_batch_is_written(place, monkeypatch):
    place.put(monday=5, tuesday=5)
    place.score()
    (place.to_embed / "bad").mkdir()
    (place.to_embed / "bad/read me.txt").write_text("hello")
    with monkeypatch.context() as patch:
        when_read(patch, lambda folder, _: folder.name == "tuesday" and (folder / "new").touch())
        result = place.score(NEW)
    assert result.outcomes == {"bad": "bad", "monday": "embedded", "tuesday": "unfinished"}
    assert result.outcome == Outcome.BAD_DATA
    assert "these are bad and in quarantine: bad" in result.reason
    assert f"readers find the embeddings of {OLD} until these are embedded" in result.reason
    assert place.releases() == {"monday": OLD, "tuesday": OLD}
    (place.to_embed / "tuesday/new").unlink()
    assert place.score(NEW).outcomes == {"bad": "bad", "tuesday": "embedded"}
    assert place.releases() == {"monday": NEW, "tuesday": NEW}


def test_of_earlier_batches_none_is_in_memory_when_one_is_read(place, monkeypatch):
    place.put(a=20, b=20, c=20)
    read = []

    def none_is_alive(_, images):
        gc.collect()
        assert not any(reference() is not None for reference in read)
        read.append(weakref.ref(images))

    when_read(monkeypatch, none_is_alive)
    place.score()
    assert len(read) == 3
