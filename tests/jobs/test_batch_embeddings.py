"""Embeddings of batches: which are done, and a link that leads to one model's."""

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from mnist_vae.jobs.batch_embeddings import BatchEmbeddingsDataset, finish

OLD, NEW = "000001-old", "000002-new"


def rows(model):
    """A table like one of embeddings, in two chunks."""
    column = pa.chunked_array([[model.rpartition("-")[2]] * n for n in (1, 2)])
    return pa.table({"model_version": column}).replace_schema_metadata({"batch_signature": "s"})


def end(embeddings, model, complete=True, keep=3):
    finish(embeddings.load().folder, model, complete=complete, keep=keep)


@pytest.fixture
def embeddings(tmp_path):
    return BatchEmbeddingsDataset(path=str(tmp_path / "embeddings"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "embeddings"


def embed(embeddings, model, *batches, show=True, keep=3):
    for batch in batches:
        embeddings.save({f"{model}/{batch}": rows(model)})
    if show:
        end(embeddings, model, keep=keep)


def found(folder):
    """What a reader finds that follows the link once: the model of each batch."""
    current = Path(os.path.realpath(folder / "current"))
    return {path.stem: set(pd.read_parquet(path)["model_version"]) for path in current.iterdir()}


def test_that_nothing_is_embedded_yet_is_no_error(embeddings):
    assert (embeddings.load().current, embeddings.load().done(OLD)) == (None, {})
    end(embeddings, OLD)
    assert embeddings.load().current is None, "there is nothing to lead to"


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
    for wrong in (None, "nowhere", "/tmp"):  # it is made anew
        if wrong:
            (folder / "current").unlink()
            (folder / "current").symlink_to(wrong)
        end(embeddings, OLD)
        assert found(folder) == {"monday": {"old"}, "tuesday": {"old"}}


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
