"""A retraining as its operator sees it, and the faults that it survives."""

import datetime
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from kedro.framework.hooks import hook_impl

from mnist_vae import settings
from mnist_vae.data.archive import read_sample
from mnist_vae.data.idx import IdxDataset
from mnist_vae.jobs import releases
from tests import prometheus
from tests.projects import copy_project
from tests.retrainings import (
    arguments,
    damage,
    deliver,
    in_service,
    in_use,
    last_line,
    models,
    retrain,
)

pytestmark = pytest.mark.slow

KEEP = {"retraining.min_gain": 1000}  # of tests that are about batches: no candidate is promoted
BETTER = {"training.epochs": 3}

# Of the job, at random moments; RETRAINING_KILLS=30 for more of them.
KILLS = int(os.environ.get("RETRAINING_KILLS", "2"))


@pytest.fixture
def project(served_copy):
    return served_copy


def figures_of(project):
    folder = project / "data/test/08_reporting/prometheus"
    return prometheus.read(folder / "mnist_vae_retraining.prom")


def test_batches_are_used_once_or_go_to_quarantine_or_are_withdrawn(project, fresh):
    good = deliver(project, "good", fresh[:60])
    deliver(project, "unlabelled", fresh[60:100], labelled=False)
    splits = project / "data/test/05_model_input/archive"
    test = pd.read_parquet(splits / "test_images.parquet", columns=["image_id"])
    leak = read_sample().pictures[test["image_id"][0]]
    deliver(project, "leak", fresh[100:110], image_3=leak)
    cut = deliver(project, "truncated", fresh[110:120]) / "images-idx3-ubyte.gz"
    cut.write_bytes(cut.read_bytes()[:-50])
    line = retrain(project, **KEEP)
    assert line["outcome"] == "kept", line
    assert line["batches"] == {
        "good": "accepted",
        "leak": "bad",
        "truncated": "bad",
        "unlabelled": "accepted",
    }
    assert in_use(project) == ["good", "unlabelled"]
    raw = project / "data/test/01_raw"
    names = ["leak", "leak.json", "truncated", "truncated.json"]
    assert sorted(path.name for path in (raw / "quarantine").iterdir()) == names
    for name, words in (("leak", "in the test split"), ("truncated", "is a broken gzip")):
        (reason,) = json.loads((raw / f"quarantine/{name}.json").read_text())["reasons"]
        assert words in reason
    assert sorted(path.name for path in (raw / "taken").iterdir()) == ["good", "unlabelled"]
    assert not any(good.parent.iterdir()), "where a folder is says what it is"
    figures = figures_of(project)
    assert figures["mnist_vae_candidates_kept_in_a_row",] == 1
    assert figures["mnist_vae_candidate_gain_nats",] == line["gain"]
    states = ("waiting", "in_use", "withdrawn", "quarantined")
    assert [figures["mnist_vae_batches", state] for state in states] == [0, 2, 0, 2]
    in_service(project)

    # The same images under another name are bad, and there is nothing else.
    deliver(project, "again", fresh[:60])
    line = retrain(project, **KEEP)
    assert (line["outcome"], line["exit_code"]) == ("bad_data", 65)
    assert line["batches"] == {"again": "bad"}
    assert retrain(project, "withdraw", "good")["outcome"] == "withdrawn"
    assert in_use(project) == ["unlabelled"]
    deliver(project, "once more", fresh[:60])
    folder = deliver(project, "dark", fresh[120:320])
    images = IdxDataset(filepath=str(folder / "images-idx3-ubyte.gz"))
    images.save(255 - images.load())
    drift = {"retraining.drift_effect": 0.5, "retraining.stall_after": 1}
    line = retrain(project, **KEEP, **drift)
    assert (line["outcome"], line["exit_code"]) == ("stalled", 66)
    assert line["batches"] == {"dark": "accepted", "once more": "bad"}
    assert line["drifted"].keys() == {"dark"}
    assert "Batch dark has drifted, and is used all the same: expected" in line["log"]
    assert 0.5 <= figures_of(project)["mnist_vae_drift_effect",] <= 1


def test_a_better_candidate_is_promoted_and_taken_back_and_put_in_service_by_its_name(project):
    before = in_service(project)
    line = retrain(project, **BETTER)
    assert line["outcome"] == "promoted", line
    assert line["gain_interval"][0] > 0
    after = in_service(project)
    assert after == line["champion"] != before
    page = ((models(project) / "champion").resolve() / "report.html").read_text()
    assert f"Candidate {after} is in service" in page
    sheets = re.findall(r'<img class="ink" alt="[^"]* of the (champion|candidate)"', page)
    assert sorted(sheets) == 4 * ["candidate"] + 4 * ["champion"]
    name, figures = f"000002-{after}", figures_of(project)
    assert figures["mnist_vae_last_run_outcome", "promoted"] == 1
    assert figures["mnist_vae_release_info", after, name] == 1
    nats = figures["mnist_vae_negative_elbo_nats", "judge", "champion"]
    assert nats == line["candidate"]["negative_elbo"]
    assert 0 <= time.time() - figures["mnist_vae_last_success_timestamp_seconds",] < 3600

    line = retrain(project, "roll-back")
    assert (line["outcome"], line["champion"]) == ("rolled_back", before)
    assert in_service(project) == before
    line = retrain(project, **BETTER)
    assert line["outcome"] == "nothing_new"
    assert f"the release {name}, which a person took out of service" in line["reason"]
    line = retrain(project, "roll-back")
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert "There is no release to go back to" in line["reason"]
    line = retrain(project, "roll-back", name)
    assert line["reason"] == f"{name} is in service again, instead of 000001-{before}"
    assert in_service(project) == after
    line = retrain(project, **BETTER)
    assert line["reason"] == "code, parameters and data are those in service"


def test_a_warm_start_resumes_from_the_weights_in_service(project):
    line = retrain(project, **{"retraining.start": "champion", "training.learning_rate": 0.001})
    assert line["outcome"] == "promoted", line
    assert line["gain"] > 0
    in_service(project)


def test_a_damaged_champion_is_replaced_without_help(project):
    damage(project)
    line = retrain(project)
    assert line["outcome"] == "promoted", line
    assert "was damaged" in line["repaired"]
    assert in_service(project) == line["champion"]
    assert retrain(project)["outcome"] == "nothing_new"


def test_a_clock_that_was_set_back_and_missing_figures_stop_no_retraining(project, tmp_path):
    time_machine = pytest.importorskip("time_machine", reason="the extra `all` is needed")
    missing = {"monitoring.textfile_folder": str(tmp_path / "missing")}
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    with time_machine.travel(past, tick=True):
        line = retrain(project, **BETTER, **missing)
    assert line["started"].startswith("2020-01-01")
    assert line["outcome"] == "promoted", line
    assert "Figures for Prometheus were not written" in line["log"]
    assert retrain(project, **BETTER)["outcome"] == "nothing_new"


def start(project, **params):
    return subprocess.Popen(
        [Path(sys.executable).with_name("kedro"), *arguments(**params)],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(process, text):
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return
    raise AssertionError(f"the job never wrote {text!r}: {''.join(lines)[-2000:]}")


def test_what_others_do_while_a_retraining_runs(project, fresh):
    """A batch comes, a second job starts, and a person takes the champion out of service."""
    folder = models(project)
    first = releases.champion(folder)
    shutil.copytree(first.folder, folder / "candidate")
    releases.promote(folder, first.manifest | {"fingerprint": "twin"}, keep=5)
    deliver(project, "early", fresh[:40])
    job = start(project)
    read_until(job, "Running node: train_vae")
    deliver(project, "late", fresh[40:80])
    second = retrain(project)
    assert (second["outcome"], second["exit_code"]) == ("locked", 75)
    assert f"another run is under way: process {job.pid}" in second["reason"]
    read_until(job, "Running node: write_report")  # it has been judged
    job.send_signal(signal.SIGSTOP)
    line = retrain(project, "roll-back")
    job.send_signal(signal.SIGCONT)
    assert (line["outcome"], releases.champion(folder).name) == ("rolled_back", first.name)
    stdout, stderr = job.communicate(timeout=300)
    assert job.returncode == 0, stderr
    line = last_line(stdout)
    assert (line["outcome"], line["batches"]) == ("kept", {"early": "accepted"})
    assert "meanwhile" in line["reason"]
    assert releases.champion(folder).name == first.name
    assert retrain(project, **KEEP)["batches"] == {"late": "accepted"}
    assert in_use(project) == ["early", "late"]


def files_in_service(project):
    """Return the checksums by file name, without those of files that name a time; the version."""
    folder = (models(project) / "champion").resolve()
    files = json.loads((folder / "release.json").read_text())["files"]
    dated = {
        *("report.html", "README.md", "run_manifest.json", "decision.json"),
        *("training_summary.json", "encoder.keras", "decoder.keras", "inference_encoder.keras"),
    }
    assert not list(folder.glob(".*")), "nothing that is half written goes in service"
    return {name: files[name] for name in files.keys() - dated}, in_service(project)


def test_a_retraining_that_is_killed_at_any_moment_ends_as_if_it_had_not_been(project, fresh):
    moment = random.Random(KILLS)
    deliver(project, "monday", fresh[:60])
    params = {"training.epochs": 6}
    before = in_service(project)
    twin = shutil.copytree(project, project.with_name("twin"), symlinks=True)
    started = time.monotonic()
    expected = retrain(twin, **params)["champion"]
    seconds = time.monotonic() - started
    for _ in range(KILLS):
        job = start(project, **params)
        try:
            job.communicate(timeout=moment.uniform(0.2, 10 + seconds))
        except subprocess.TimeoutExpired:
            job.send_signal(signal.SIGKILL)
            job.communicate()
        assert in_service(project) in (before, expected)
    # And once more when all is made and nothing promoted.
    if in_service(project) == before:
        job = start(project, **params)
        read_until(job, "Running node: write_report")
        job.kill()
        job.communicate()
        assert in_service(project) == before
    line = retrain(project, **params)
    assert line["outcome"] in ("promoted", "nothing_new"), line
    assert files_in_service(project) == files_in_service(twin)
    assert in_use(project) == ["monday"]


@pytest.fixture
def small_disk(served, tmp_path):
    """The project, whose data are on a small disk of their own."""
    project = copy_project(tmp_path / "project")
    data = project / "data/test"
    data.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", data]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk is needed: mounting one takes a root that may mount")
    shutil.copytree(served / "data/test", data, symlinks=True, dirs_exist_ok=True)
    yield project
    # Lazily: of what this process has read, some may still be mapped into memory.
    subprocess.run(["umount", "--lazy", data], check=True)


class Fill:
    """Leaves so many bytes of the disk free when a dataset is to be saved."""

    def __init__(self, dataset, ballast, room):
        self.dataset, self.ballast, self.room = dataset, ballast, room

    @hook_impl
    def before_dataset_saved(self, dataset_name):
        if dataset_name == self.dataset:
            fill(self.ballast, self.room)


def fill(ballast, room=0):
    """Write a file that leaves so many bytes of its disk free."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - room))


def test_a_disk_that_is_read_only_or_full_leaves_the_model_in_service(small_disk, monkeypatch):
    before = in_service(small_disk)
    data = small_disk / "data/test"
    ballast = data / "ballast"
    subprocess.run(["mount", "-o", "remount,ro", data], check=True)
    line = retrain(small_disk)
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert "cannot be written to" in line["reason"]
    subprocess.run(["mount", "-o", "remount,rw", data], check=True)
    for dataset, room in (
        ("candidate_train_images", 8192),  # for the beginning of a file
        ("candidate_encoder", 0),
        ("retraining_decision", 0),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(settings, "HOOKS", (*settings.HOOKS, Fill(dataset, ballast, room)))
            line = retrain(small_disk, **BETTER)
        assert (line["outcome"], line["exit_code"]) == ("failed", 1), line["log"]
        assert "No space left" in line["reason"], line
        assert in_service(small_disk) == before
        ballast.unlink()
    assert retrain(small_disk, **BETTER)["outcome"] == "promoted"
    assert in_service(small_disk) != before
    # The person who takes a bad model out of service need not make room first.
    fill(ballast)
    line = retrain(small_disk, "roll-back")
    assert (line["outcome"], line["exit_code"]) == ("rolled_back", 0), line
    assert in_service(small_disk) == before
    ballast.unlink()
    assert retrain(small_disk, **BETTER)["outcome"] == "nothing_new", "it was declined"
