"""The scoring as its scheduler runs it, beside the retraining."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from mnist_vae.data.archive import read_sample
from mnist_vae.data.idx import IdxDataset
from tests.conftest import run
from tests.releases import releases_of, use
from tests.retrainings import retrain

pytestmark = pytest.mark.slow  # they train, some in processes of their own


@cache
def sample():
    """The images and the labels of the sample, which takes seconds to read."""
    parts = read_sample()
    return parts["train_images"].values, parts["train_labels"].values


def deliver(project, name, rows, labelled=True):
    """Put a batch of these rows of the sample among those to embed."""
    images, labels = (values[rows] for values in sample())
    folder = project / "data/test/01_raw/to_embed" / name
    IdxDataset(filepath=f"{folder}/images-idx3-ubyte.gz").save(images)
    if labelled:
        IdxDataset(filepath=f"{folder}/labels-idx1-ubyte.gz").save(labels)
    return folder


def score(project, **params):
    return retrain(project, "score", **params)


def output(project):
    return project / "data/test/07_model_output/batch_embeddings"


def found(project):
    """What a reader finds that follows the link once: the rows of each batch."""
    current = Path(os.path.realpath(output(project) / "current"))
    return {path.stem: pd.read_parquet(path) for path in sorted(current.glob("*.parquet"))}


def version(project):
    summary = project / "data/test/06_models/training_summary.json"
    return json.loads(summary.read_text())["model_version"]


def versions(project):
    return {name: set(table["model_version"]) for name, table in found(project).items()}


def test_a_job_embeds_each_batch_once_and_all_anew_by_the_next_model(copied):
    assert score(copied)["outcome"] == "nothing_new"
    deliver(copied, "monday", range(10))
    deliver(copied, "tuesday", range(10, 30), labelled=False)
    (copied / "data/test/01_raw/to_embed/bad").mkdir()
    (copied / "data/test/01_raw/to_embed/bad/read me").write_text("hello")
    first = score(copied)
    assert first["batches"] == {"bad": "bad", "monday": "embedded", "tuesday": "embedded"}
    assert (first["outcome"], first["exit_code"], first["images"]) == ("bad_data", 65, 30)
    assert (first["release"], first["model_version"]) == (None, version(copied))
    quarantine = copied / "data/test/01_raw/to_embed_quarantine"
    (reason,) = json.loads((quarantine / "bad.json").read_text())["reasons"]
    assert "read me is not an IDX file" in reason
    old = versions(copied)
    assert old == {name: {version(copied)} for name in ("monday", "tuesday")}

    images = sample()[0][10:30]
    path = copied / "data/test/01_raw/new_images.idx3-ubyte.gz"
    IdxDataset(filepath=str(path)).save(images)
    run(copied, "embedding_of_new_images")
    expected = pd.read_parquet(copied / "data/test/07_model_output/new_embeddings.parquet")
    tuesday = found(copied)["tuesday"]
    pd.testing.assert_frame_equal(tuesday.drop(columns="label"), expected)

    assert score(copied)["outcome"] == "nothing_new"
    deliver(copied, "wednesday", range(30, 40))
    again = score(copied)
    assert (again["outcome"], again["batches"]) == ("scored", {"wednesday": "embedded"})

    run(copied, "training", seed=7, training={"epochs": 1})
    assert old.items() <= versions(copied).items()
    anew = score(copied)
    assert (anew["outcome"], anew["images"]) == ("scored", 40)
    assert versions(copied) == {name: {version(copied)} for name in [*old, "wednesday"]}
    assert {version(copied)} not in old.values()

    line, log = anew, anew.pop("log")
    journal = copied / "data/test/08_reporting/scoring/journal.jsonl"
    lines = [json.loads(text) for text in journal.read_text().splitlines()]
    assert lines[-1] == line
    assert [entry["outcome"] for entry in lines] == [
        "nothing_new",
        "bad_data",
        "nothing_new",
        "scored",
        "scored",
    ]
    assert "Scored:" in log


def test_the_champion_says_which_images_are_anomalies_by_its_own_threshold(served_copy):
    use(served_copy, "champion")
    release = releases_of(served_copy).load()
    calibration = release.load("anomaly_calibration.json")
    incoming = served_copy / "data/test/01_raw/to_embed"
    usual = release.load("validation_images.parquet")["pixels"]
    pixels = np.frombuffer(b"".join(usual), np.uint8).reshape(-1, 28, 28)
    for name, images in (("inverted", 255 - pixels), ("usual", pixels)):
        IdxDataset(filepath=f"{incoming}/{name}/images-idx3-ubyte.gz").save(images)
    line = score(served_copy)
    tables = found(served_copy)
    flagged = {name: int(table["is_anomaly"].sum()) for name, table in tables.items()}
    assert flagged["inverted"] == len(usual)
    # Those that the threshold was chosen on, with the same draws of z.
    assert flagged["usual"] <= calibration["false_positive_rate"] * len(usual)
    assert (line["images"], line["anomalous_images"]) == (2 * len(usual), sum(flagged.values()))
    metadata = pq.read_schema(output(served_copy) / release.name / "inverted.parquet").metadata
    assert float(metadata[b"threshold"]) == calibration["threshold"]
    figures = (served_copy / "data/test/08_reporting/prometheus").glob("*scoring.prom")
    said = next(figures).read_text()
    assert "mnist_vae_last_run_anomalous_images{" in said
    # What is asked for today holds for the next release.
    again = score(served_copy, **{"anomaly.false_positive_rate": 0.5})
    assert again["outcome"] == "nothing_new", again


def test_without_a_model_it_fails_and_loses_nothing(project):
    folder = deliver(project, "monday", range(5))
    line = score(project)
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert folder.is_dir()


def test_a_link_that_a_restore_made_a_folder_ends_before_any_work_with_what_to_do(copied):
    deliver(copied, "monday", range(5))
    score(copied)
    shutil.copytree(output(copied), restored := output(copied).with_name("restored"))
    shutil.rmtree(output(copied))
    restored.rename(output(copied))  # without links
    deliver(copied, "tuesday", range(5, 9))
    line = score(copied)
    assert (line["outcome"], line["batches"]) == ("failed", {})
    subprocess.run(["/bin/sh", "-c", line["reason"].split("`")[1]], cwd=copied, check=True)
    assert score(copied)["batches"] == {"tuesday": "embedded"}
    assert set(found(copied)) == {"monday", "tuesday"}


def test_it_waits_for_no_other_and_runs_beside_a_retraining(copied):
    deliver(copied, "monday", range(5))
    data = copied / "data/test"
    with FileLock(data / "06_models/retraining.lock"):
        assert score(copied)["outcome"] == "scored"
    with FileLock(data / "07_model_output/scoring.lock"):
        line = score(copied)
    assert (line["outcome"], line["exit_code"]) == ("locked", 75)
    assert not (data / "08_reporting/retraining").exists()


def test_a_run_that_is_killed_leaves_readers_the_old_model_and_the_next_one_resumes(copied):
    names = [f"batch-{batch:02d}" for batch in range(20)]
    for batch, name in enumerate(names):
        deliver(copied, name, range(batch * 50, batch * 50 + 50))
    score(copied)
    old = versions(copied)
    run(copied, "training", seed=7, training={"epochs": 1})
    folder = output(copied) / version(copied)
    process = subprocess.Popen(
        [Path(sys.executable).with_name("kedro"), "score", "--env", "test"],
        cwd=copied,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (folder.is_dir() and any(folder.iterdir())) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=120)
    done = {path.stem for path in folder.iterdir()}
    assert done < set(names), "it was stopped between two batches"
    assert versions(copied) == old
    line = score(copied)
    assert line["outcome"] == "scored"
    assert set(line["batches"]) == set(names) - done
    assert versions(copied) == {name: {version(copied)} for name in names}
    assert not list(output(copied).glob(".*"))
