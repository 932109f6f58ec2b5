"""States that a retraining gets into, one feature after the other, and how it gets out of them.

The job runs in this process; where processes die or meet, see `test_retraining.py`.
"""

import json
import os
import re

import numpy as np
import pandas as pd
import pytest

from mnist_vae.data.archive import read_sample
from mnist_vae.data.idx import IdxDataset
from tests.projects import copy_project
from tests.retrainings import (
    damage,
    deliver,
    ids_in_use,
    in_service,
    in_use,
    models,
    retrain,
)

pytestmark = pytest.mark.slow

KEEP = {"retraining.min_gain": 1000}  # of tests that are about batches: no candidate is promoted


@pytest.fixture
def project(served_copy):
    return served_copy


def test_good_batches_are_used_once_and_bad_ones_go_to_quarantine(project, fresh):
    good = deliver(project, "good", fresh[:60])
    deliver(project, "unlabelled", fresh[60:100], labelled=False)
    test = pd.read_parquet(
        project / "data/test/05_model_input/archive/test_images.parquet", columns=["image_id"]
    )
    leak = read_sample()["train_images"].values[test["image_id"][0]]
    deliver(project, "leak", fresh[100:110], image_3=leak)
    cut = deliver(project, "truncated", fresh[110:120]) / "images-idx3-ubyte.gz"
    cut.write_bytes(cut.read_bytes()[:-50])
    labels = cut.with_name("labels-idx1-ubyte.gz")
    IdxDataset(filepath=str(labels)).save(np.full(10, 255, np.uint8))
    line = retrain(project, **KEEP)
    assert line["outcome"] == "kept", line
    assert line["batches"] == {
        "good": "accepted",
        "leak": "bad",
        "truncated": "bad",
        "unlabelled": "accepted",
    }
    assert in_use(project) == ["good", "unlabelled"]
    quarantine = project / "data/test/01_raw/quarantine"
    assert sorted(path.name for path in quarantine.iterdir()) == [
        "leak",
        "leak.json",
        "truncated",
        "truncated.json",
    ]
    assert "in the test split" in json.loads((quarantine / "leak.json").read_text())["reasons"][0]
    reasons = json.loads((quarantine / "truncated.json").read_text())["reasons"]
    assert ["images-idx3-ubyte.gz is a broken gzip" in reason for reason in reasons] == [
        True,
        False,
    ]
    assert "expected uint8 values up to 254" in reasons[1]
    assert (quarantine / "truncated/labels-idx1-ubyte.gz").is_file()
    taken = project / "data/test/01_raw/taken"
    assert sorted(path.name for path in taken.iterdir()) == ["good", "unlabelled"]
    assert not any(good.parent.iterdir()), "where a folder is says what it is"
    in_service(project)
    # The same images under another name are bad, and there is nothing else.
    deliver(project, "again", fresh[:60])
    line = retrain(project, **KEEP)
    assert (line["outcome"], line["exit_code"]) == ("bad_data", 65)
    assert line["batches"] == {"again": "bad"}
    assert retrain(project, **KEEP)["outcome"] == "nothing_new"


def test_a_better_candidate_is_promoted_and_rolled_back_and_not_promoted_again(project):
    before = in_service(project)
    line = retrain(project, **{"training.epochs": 3})
    assert line["outcome"] == "promoted", line
    assert line["gain_interval"][0] > 0
    after = in_service(project)
    assert after == line["champion"] != before
    page = ((models(project) / "champion").resolve() / "report.html").read_text()
    assert f"Candidate {after} is in service" in page
    sheets = re.findall(r'<img class="ink" alt="[^"]* of the (champion|candidate)"', page)
    assert sorted(sheets) == 4 * ["candidate"] + 4 * ["champion"]
    line = retrain(project, "roll-back")
    assert (line["outcome"], line["champion"]) == ("rolled_back", before)
    assert in_service(project) == before
    line = retrain(project, **{"training.epochs": 3})
    assert line["outcome"] == "nothing_new"
    assert f"the release 000002-{after}, which a person took out of service" in line["reason"]
    line = retrain(project, "roll-back")
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert "There is no release to go back to" in line["reason"]
    assert f"(000002-{after})" in line["reason"]
    assert in_service(project) == before


def test_a_rollback_is_undone_by_the_name_of_the_release_and_may_be_repeated(project):
    before, better = in_service(project), {"training.epochs": 3}
    after = retrain(project, **better)["champion"]
    undo = f"000002-{after}"
    for _ in range(2):
        assert retrain(project, "roll-back")["champion"] == before
        line = retrain(project, "roll-back", undo)
        assert (line["outcome"], line["exit_code"], line["champion"]) == ("rolled_back", 0, after)
        assert line["reason"] == f"000002-{after} is in service again, instead of 000001-{before}"
        assert in_service(project) == after
    line = retrain(project, **better)
    assert (line["outcome"], line["champion"]) == ("nothing_new", after)
    assert line["reason"] == "code, parameters and data are those in service"
    assert "already" in retrain(project, "roll-back", undo)["reason"]
    retrain(project, "roll-back")
    line = retrain(project, "roll-back", "2")
    assert (line["outcome"], line["champion"]) == ("failed", before)
    assert f"one of 000002-{after}, or of the one in service, 000001-{before}" in line["reason"]


def test_a_warm_start_goes_on_from_the_weights_in_service(project):
    line = retrain(project, **{"retraining.start": "champion", "training.learning_rate": 0.001})
    assert line["outcome"] == "promoted", line
    assert line["gain"] > 0
    in_service(project)


@pytest.mark.parametrize("filename", ["encoder.keras", "release.json"])
def test_a_corrupted_champion_is_replaced_without_help(project, filename):
    damage(project, filename)
    line = retrain(project)
    assert line["outcome"] == "promoted", line
    assert "was damaged" in line["repaired"]
    assert in_service(project) == line["champion"]
    assert retrain(project)["outcome"] == "nothing_new"


def test_without_a_whole_release_what_was_declined_beside_it_is_tried_again(project):
    worse = {"retraining.min_gain": 1000, "training.epochs": 3}
    assert retrain(project, **worse)["outcome"] == "kept"
    assert retrain(project, **worse)["outcome"] == "nothing_new"
    damage(project)
    line = retrain(project, **worse)
    assert line["outcome"] == "promoted", line
    assert in_service(project) == line["champion"]


def test_a_first_candidate_that_may_not_serve_is_no_success_today_and_none_next_week(tmp_path):
    project = copy_project(tmp_path / "project")
    strict = {"retraining.first_max_negative_elbo": 1}
    for _ in range(2):
        line = retrain(project, **strict)
        assert (line["outcome"], line["exit_code"], line["champion"]) == ("failed", 1, None)
    assert retrain(project)["outcome"] == "promoted"


def test_a_rollback_from_a_damaged_release_goes_one_back_and_declines_nothing(project):
    first = in_service(project)
    better = {"training.epochs": 3}
    second = retrain(project, **better)["champion"]
    damage(project)
    line = retrain(project, "roll-back")
    assert (line["outcome"], line["champion"]) == ("rolled_back", first)
    assert in_service(project) == first
    line = retrain(project, **better)
    assert (line["outcome"], line["champion"]) == ("promoted", second), "it was not its fault"


def test_a_warm_start_that_gains_nothing_is_kept_and_not_tried_again(project):
    params = {"retraining.start": "champion", "training.learning_rate": 1e-12}
    line = retrain(project, **params)
    assert (line["outcome"], line["exit_code"]) == ("kept", 0), line
    assert retrain(project, **params)["outcome"] == "nothing_new"


def test_the_same_again_by_force_declines_nothing_that_is_in_service(project):
    before = in_service(project)
    assert retrain(project, **{"retraining.force": True})["outcome"] == "kept"
    second = retrain(project, **{"training.epochs": 3})["champion"]
    damage(project)
    line = retrain(project)
    assert line["champion"] == before != second
    assert before in line["repaired"]


def test_what_could_not_be_compared_is_not_trained(project):
    line = retrain(project, **{"model.reconstruction": "mse"})
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert "could not be compared with the model in service" in line["reason"]
    assert "Running node: train_vae" not in line["log"]
    before = in_service(project)
    line = retrain(project, **{"model.reconstruction": "mse", "retraining.judge_as_first": True})
    assert line["outcome"] == "promoted", line
    assert in_service(project) != before
    assert retrain(project, "roll-back", **{"model.reconstruction": "mse"})["champion"] == before


def test_no_batch_whatever_its_name_or_content_stops_the_others(project, fresh):
    incoming = project / "data/test/01_raw/incoming"
    deliver(project, "good", fresh[:30])
    long = "x" * 250
    deliver(project, "long", fresh[30:60]).rename(incoming / long)
    odd = os.fsdecode(b"odd\nname\xff")
    deliver(project, "odd", fresh[60:90]).rename(incoming / odd)
    (incoming / "dangling").mkdir()
    (incoming / "dangling/a-idx3-ubyte").symlink_to("nowhere")
    (incoming / "picture").mkdir()
    (incoming / "picture/a.png").write_bytes(b"GIF89a" + bytes(50))
    line = retrain(project, **KEEP)
    assert line["outcome"] == "kept", line
    assert line["batches"] == {
        "dangling": "bad",
        "good": "accepted",
        "odd\\x0aname\\xff": "accepted",
        "picture": "bad",
        long: "accepted",
    }
    assert len(ids_in_use(project)) == 90
    in_service(project)
    assert retrain(project, **KEEP)["batches"] == {}


def test_a_withdrawn_batch_is_not_trained_on_and_does_not_come_back(project, fresh):
    deliver(project, "monday", fresh[:40])
    deliver(project, "tuesday", fresh[40:80])
    assert set(retrain(project, **KEEP)["batches"].values()) == {"accepted"}
    before = ids_in_use(project)
    line = retrain(project, "withdraw", "monday")
    assert (line["outcome"], line["exit_code"]) == ("withdrawn", 0)
    assert in_use(project) == ["tuesday"]
    deliver(project, "again", fresh[:40])
    deliver(project, "wednesday", fresh[80:100])
    line = retrain(project, **KEEP)
    assert line["batches"] == {"again": "bad", "wednesday": "accepted"}
    assert line["outcome"] == "kept"
    new = set(ids_in_use(project)) - set(before)
    assert min(new) > max(before), "the ids of what left are not given again"
    line = retrain(project, "withdraw", "friday")
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert "batches in use (tuesday." in line["reason"]


def test_drifted_batches_that_keep_candidates_out_raise_an_alarm_the_third_time(project, fresh):
    strict = {"retraining.min_gain": 1000, "retraining.drift_effect": 0.5}
    folder = deliver(project, "dark", fresh[:200])
    images = folder / "images-idx3-ubyte.gz"
    IdxDataset(filepath=str(images)).save(255 - IdxDataset(filepath=str(images)).load())
    recipes = [{**strict, "training.batch_size": size} for size in (100, 101, 102)]
    first, second = (retrain(project, **recipe) for recipe in recipes[:2])
    assert (first["outcome"], second["outcome"]) == ("kept", "kept")
    assert "Batch dark has drifted, and is used all the same: expected" in first["log"]
    assert first["drifted"].keys() == {"dark"}
    assert first["drifted"]["dark"] >= 0.5
    assert second["drifted"] == first["drifted"], "it was accepted earlier"
    line = retrain(project, **recipes[2])
    assert (line["outcome"], line["exit_code"]) == ("stalled", 66)
    assert "dark." in line["reason"]
    line = retrain(project, **recipes[2])
    assert line["outcome"] == "stalled", "until somebody looks"
    retrain(project, "withdraw", "dark")
    assert retrain(project, **recipes[2])["outcome"] == "kept"


def test_a_batch_that_is_put_back_is_not_used_twice_and_its_name_may_come_again(project, fresh):
    first = deliver(project, "first", fresh[:40])
    retrain(project, **KEEP)
    taken = first.parents[1] / "taken"
    ids = ids_in_use(project)
    (taken / "first").rename(first)
    line = retrain(project, **KEEP)
    assert (line["outcome"], line["batches"]) == ("nothing_new", {"first": "in use"})
    assert [path.name for path in taken.iterdir()] == ["first"]
    assert ids_in_use(project) == ids
    deliver(project, "first", fresh[40:60])
    assert retrain(project, **KEEP)["batches"] == {"first": "accepted"}
    assert sorted(path.name for path in taken.iterdir()) == ["first", "first-2"]
    assert len(set(ids_in_use(project))) == 60
