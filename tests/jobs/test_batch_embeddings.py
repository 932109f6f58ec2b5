"""Embeddings of batches: each file whole, and a link that leads to one model's."""

import os
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnist_vae.data.images import embedding_names, new_image_set
from mnist_vae.data.tables import EmbeddingContract, table_schema
from mnist_vae.jobs.batch_embeddings import BatchEmbeddingsDataset, finish

OLD, NEW = "000001-old", "000002-new"


def rows(model, batch="monday", n=3, declared=None, signature="s", release=True):
    """A table of embeddings, in two chunks."""
    version = model.rpartition("-")[2]
    about = {"batch": batch, "batch_signature": signature, "release": model if release else ""}
    about |= {"n_images": declared or n, "model_version": version}
    labelled = new_image_set(np.empty((0, 28, 28), np.uint8), np.empty(0, np.uint8))
    floats = embedding_names(2)
    schema = table_schema([*floats, "model_version"], [labelled], about)

    def part(ids):
        columns = {
            "image_id": np.array(ids),
            "split": ["new"] * len(ids),
            "label": pa.array([None] * len(ids), pa.uint8()),
            **{name: np.ones(len(ids), np.float32) for name in floats},
            "model_version": [version] * len(ids),
        }
        return pa.record_batch([pa.array(columns[f.name], f.type) for f in schema], schema=schema)

    return pa.Table.from_batches(map(part, ([0], list(range(1, n)))), schema)


def end(embeddings, model, complete=True, keep=3):
    finish(embeddings.load().folder, model, complete=complete, keep=keep)


@pytest.fixture
def embeddings(tmp_path):
    return BatchEmbeddingsDataset(path=str(tmp_path / "embeddings"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "embeddings"


def embed(embeddings, model, *batches, show=True, keep=3, **kwargs):
    for batch in batches:
        embeddings.save({f"{model}/{batch}": rows(model, batch, **kwargs)})
    if show:
        end(embeddings, model, keep=keep)


def found(folder):
    """What a reader finds that follows the link once: the model of each batch."""
    current = Path(os.path.realpath(folder / "current"))
    return {path.stem: set(pd.read_parquet(path)["model_version"]) for path in current.iterdir()}


def test_that_nothing_is_embedded_yet_is_no_error(embeddings):
    loaded = embeddings.load()
    assert loaded.current is None
    assert loaded.done(OLD) == {}
    end(embeddings, OLD)
    embeddings.save({})
    assert embeddings.load().current is None, "there is nothing to lead to"


def test_without_a_release_the_folder_is_that_of_the_models_version(embeddings):
    embed(embeddings, "old", "monday", release=False)
    assert embeddings.load().done("old") == {"monday": "s"}
    assert embeddings.load().current == "old"


def test_what_breaks_the_contract_leaves_no_file_and_the_one_before_stays(embeddings, folder):
    embed(embeddings, OLD, "monday")
    for batch in ("monday", "tuesday"):
        table = {f"{OLD}/{batch}": rows(OLD, declared=5)}
        with pytest.raises(ValueError, match="expected 5 rows"):
            embeddings.save(EmbeddingContract().validate(table))
    assert found(folder) == {"monday": {"old"}}
    assert sorted(path.name for path in folder.iterdir()) == [OLD, "current"]


@pytest.mark.parametrize("what", ["half", "empty", "a stranger's", "folder"])
def test_a_file_that_does_not_hold_what_it_should_is_not_done(embeddings, folder, what):
    embed(embeddings, OLD, "monday", "tuesday", show=False)
    path = folder / OLD / "tuesday.parquet"
    match what:
        case "half":
            path.write_bytes(path.read_bytes()[:500])
        case "empty":
            path.write_bytes(b"")
        case "a stranger's":
            pd.DataFrame({"a": [1]}).to_parquet(path)
        case "folder":
            path.unlink()
            path.mkdir()
    assert embeddings.load().done(OLD) == {"monday": "s"}


def test_the_link_leads_to_a_model_that_has_embedded_all_and_to_no_other(embeddings, folder):
    embed(embeddings, OLD, "monday", "tuesday")
    embed(embeddings, NEW, "monday", show=False)
    end(embeddings, NEW, complete=False)
    assert found(folder) == {"monday": {"old"}, "tuesday": {"old"}}
    embed(embeddings, NEW, "tuesday")
    assert found(folder) == {"monday": {"new"}, "tuesday": {"new"}}
    assert (folder / "current").readlink() == Path(NEW), "so that the folder can be moved"
    end(embeddings, OLD)
    assert found(folder) == {"monday": {"old"}, "tuesday": {"old"}}


def test_a_reader_of_a_pattern_never_sees_half_a_file(embeddings, folder, monkeypatch):
    embed(embeddings, OLD, "monday")
    seen = []
    pattern = str(folder / "current/*.parquet")
    write = pq.ParquetWriter.write_batch

    def looked_at(writer, batch):
        write(writer, batch)
        seen.append(duckdb.sql(f"select count(*) from '{pattern}'").fetchall()[0][0])

    monkeypatch.setattr(pq.ParquetWriter, "write_batch", looked_at)
    embeddings.save({f"{OLD}/tuesday": rows(OLD, "tuesday")})
    assert seen == [3] * 2
    assert duckdb.sql(f"select count(*) from '{pattern}'").fetchall() == [(6,)]


def test_the_last_models_stay_on_disk_and_the_one_in_use_always_does(embeddings, folder):
    models = [f"{number:06d}-{number}" for number in range(1, 6)]
    (folder / "of a person").mkdir(parents=True)
    (folder / "of a person/notes.txt").touch()

    def left():
        return sorted(path.name for path in folder.iterdir() if path.name[0] == "0")

    for number, model in enumerate(models):
        embed(embeddings, model, "monday")
        os.utime(folder / model, (number, number))
    assert left() == models[2:]
    end(embeddings, models[2])  # a rollback: the oldest is in use again
    embed(embeddings, NEW, "monday", show=False)
    end(embeddings, NEW, complete=False, keep=1)
    assert left() == [NEW, models[2]], "the one in use, and the one that is under way"
    end(embeddings, NEW, keep=1)
    assert left() == [NEW]
    assert (folder / "of a person/notes.txt").exists()
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("target", [NEW, "/tmp"])
def test_a_wrong_link_is_made_anew(embeddings, folder, target):
    embed(embeddings, OLD, "monday")
    (folder / "current").unlink()
    (folder / "current").symlink_to(target)
    end(embeddings, OLD)
    assert found(folder) == {"monday": {"old"}}
