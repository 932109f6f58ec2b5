"""Embeddings of batches: which are done, and a link that leads to one model's."""

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from mnist_vae.jobs.batch_embeddings import BatchEmbeddingsDataset, finish

OLD, NEW = "000001-old", "000002-new"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "embeddings"


@pytest.fixture
def embeddings(folder):
    return BatchEmbeddingsDataset(path=str(folder))


def embed(embeddings, model, *batches, keep=3, complete=True):
    """Write a table like one of embeddings for each batch, in two chunks, and end the scoring."""
    version = model.rpartition("-")[2]
    table = pa.table({"model_version": pa.chunked_array([[version], [version] * 2])})
    rows = table.replace_schema_metadata({"batch_signature": "s"})
    for batch in batches:
        embeddings.save({f"{model}/{batch}": rows})
    finish(embeddings.load().folder, model, complete=complete, keep=keep)


def found(folder):
    """What a reader finds that follows the link once: the model of each batch."""
    current = Path(os.path.realpath(folder / "current"))
    return {path.stem: set(pd.read_parquet(path)["model_version"]) for path in current.iterdir()}


def test_a_file_that_does_not_hold_what_it_should_is_not_done(embeddings, folder):
    embed(embeddings, OLD, "monday", "half")
    half = folder / OLD / "half.parquet"
    half.write_bytes(half.read_bytes()[:500])
    half.with_name("empty.parquet").touch()
    half.with_name("folder.parquet").mkdir()
    pd.DataFrame({"a": [1]}).to_parquet(half.with_name("of a stranger.parquet"))
    assert embeddings.load().done(OLD) == {"monday": "s"}


def test_the_link_leads_to_a_model_that_has_embedded_all_and_to_no_other(
    embeddings, folder, monkeypatch
):
    embed(embeddings, OLD, "monday", "tuesday")
    embed(embeddings, NEW, "monday", complete=False)
    assert found(folder) == {"monday": {"old"}, "tuesday": {"old"}}
    with monkeypatch.context() as killed:
        killed.setattr("mnist_vae.jobs.batch_embeddings.remove", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            embed(embeddings, NEW, "tuesday", keep=1)
    assert found(folder) == {"monday": {"new"}, "tuesday": {"new"}}, "before the old ones go"
    assert (folder / "current").readlink() == Path(NEW), "so that the folder can be moved"
    for wrong in (None, "nowhere", "/tmp"):  # it is made anew
        if wrong:
            (folder / "current").unlink()
            (folder / "current").symlink_to(wrong)
        embed(embeddings, OLD)
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
    embed(embeddings, models[2])  # a rollback: the oldest is in use again
    embed(embeddings, NEW, "monday", complete=False, keep=1)
    assert left() == [NEW, models[2]], "the one in use, and the one that is under way"
    embed(embeddings, NEW, keep=1)
    assert left() == [NEW]
    assert (folder / "of a person/notes.txt").exists()
    assert not list(folder.glob(".*"))
