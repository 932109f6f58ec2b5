"""A retraining as its operator sees it, and the faults that it survives."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from mnist_vae.data.idx import IdxDataset
from tests import prometheus
from tests.end_to_end.conftest import read_until, small_disk, start
from tests.projects import copy_project
from tests.retrainings import arguments, deliver, in_service, in_use, last_line, models, retrain

pytestmark = pytest.mark.slow

KEEP = {"retraining.min_gain": 1000}  # of tests that are about batches: no candidate is promoted
BETTER = {"training.epochs": 3}


@pytest.fixture
def project(served, tmp_path):
    return shutil.copytree(served, tmp_path / "project", symlinks=True)


def test_batches_are_used_once_or_go_to_quarantine_or_are_withdrawn(project, fresh):
    good = deliver(project, "good", fresh[:60])
    deliver(project, "unlabelled", fresh[60:100], labelled=False)
    cut = deliver(project, "truncated", fresh[110:120]) / "images-idx3-ubyte.gz"
    cut.write_bytes(cut.read_bytes()[:-50])
    line = retrain(project, **KEEP)
    assert line["outcome"] == "kept", line
    accepted = ["good", "unlabelled"]
    assert line["batches"] == {**dict.fromkeys(accepted, "accepted"), "truncated": "bad"}
    assert in_use(project) == accepted
    raw = project / "data/test/01_raw"
    (reason,) = json.loads((raw / "quarantine/truncated.json").read_text())["reasons"]
    assert "is a broken gzip" in reason
    assert (raw / "quarantine/truncated").is_dir()
    assert sorted(path.name for path in (raw / "taken").iterdir()) == accepted
    assert not any(good.parent.iterdir()), "where a folder is says what it is"
    (declined,) = (models(project) / "declined").iterdir()
    assert (declined / "README.md").is_file()
    assert "was not put in service</h1>" in (declined / "report.html").read_text(encoding="utf-8")

    # The same images under another name are bad, and there is nothing else.
    deliver(project, "again", fresh[:60])
    line = retrain(project, **KEEP)
    assert (line["outcome"], line["batches"]) == ("bad_data", {"again": "bad"})
    assert retrain(project, "withdraw", "good")["outcome"] == "withdrawn"
    assert in_use(project) == ["unlabelled"]
    deliver(project, "once more", fresh[:60])
    images = IdxDataset(filepath=str(deliver(project, "dark", fresh[120:320]) / cut.name))
    images.save(255 - images.load())
    drift = {"retraining.drift_effect": 0.5, "retraining.stall_after": 1}
    line = retrain(project, **KEEP, **drift)
    assert line["outcome"] == "stalled"
    assert line["batches"] == {"dark": "accepted", "once more": "bad"}
    assert line["drifted"].keys() == {"dark"}
    assert "Batch dark has drifted, and is used all the same: expected" in line["log"]


def test_a_better_candidate_is_promoted_and_taken_back_and_put_in_service_by_its_name(project):
    before = in_service(project)
    line = retrain(project, **BETTER)
    assert line["outcome"] == "promoted", line
    assert line["gain_interval"][0] > 0
    after = in_service(project)
    assert after == line["champion"] != before
    champion = (models(project) / "champion").resolve()
    assert (champion / "README.md").read_text().startswith("---\nlicense: mit\n")
    page = (champion / "report.html").read_text()
    assert f"Candidate {after} is in service" in page
    assert len(page) < 8_000_000
    name = f"000002-{after}"
    figures = prometheus.read(
        project / "data/test/08_reporting/prometheus/mnist_vae_retraining.prom"
    )
    assert figures["mnist_vae_release_info", after, name] == 1
    nats = figures["mnist_vae_negative_elbo_nats", "judge", "champion"]
    assert nats == line["candidate"]["negative_elbo"]
    assert 0 <= time.time() - figures["mnist_vae_last_success_timestamp_seconds",] < 3600

    line = retrain(project, "roll-back")
    assert (line["outcome"], line["champion"]) == ("rolled_back", before)
    assert in_service(project) == before
    line = retrain(project, **BETTER)
    assert f"the release {name}, which a person took out of service" in line["reason"]
    line = retrain(project, "roll-back", name)
    assert line["reason"] == f"{name} is in service again, instead of 000001-{before}"
    assert in_service(project) == after
    line = retrain(project, **BETTER)
    assert line["reason"] == "code, parameters and data are those in service"


def test_what_others_do_while_a_retraining_runs(promoted, tmp_path, fresh):
    """A batch comes, a second job starts, and a person takes the champion out of service."""
    project = shutil.copytree(promoted, tmp_path / "project", symlinks=True)
    deliver(project, "early", fresh[:40])
    job = start(project, *arguments())
    read_until(job, "Running node: train_vae")
    deliver(project, "late", fresh[40:80])
    second = retrain(project)
    assert (second["outcome"], second["exit_code"]) == ("locked", 75)
    assert f"another run is under way: process {job.pid}" in second["reason"]
    read_until(job, "Running node: write_report")  # it has been judged
    job.send_signal(signal.SIGSTOP)
    back = retrain(project, "roll-back")
    job.send_signal(signal.SIGCONT)
    assert back["outcome"] == "rolled_back"
    stdout, stderr = job.communicate(timeout=300)
    assert job.returncode == 0, stderr
    line = last_line(stdout)
    assert (line["outcome"], line["batches"]) == ("kept", {"early": "accepted"})
    assert "meanwhile" in line["reason"]
    assert in_service(project) == back["champion"]
    assert retrain(project, **KEEP)["batches"] == {"late": "accepted"}
    assert in_use(project) == ["early", "late"]


def files_in_service(project):
    """Return the checksums of files that name no time, and the version of the weights."""
    folder = (models(project) / "champion").resolve()
    files = json.loads((folder / "release.json").read_text())["files"]
    dated = {"report.html", "README.md", "run_manifest.json", "decision.json"}
    dated |= {"training_summary.json", *(name for name in files if name.endswith(".keras"))}
    assert not list(folder.glob(".*")), "nothing that is half written goes in service"
    return {name: files[name] for name in files.keys() - dated}, in_service(project)


def test_a_retraining_that_is_killed_ends_as_if_it_had_not_been(project, fresh):
    deliver(project, "monday", fresh[:60])
    before = in_service(project)
    twin = shutil.copytree(project, project.with_name("twin"), symlinks=True)
    retrain(twin, **BETTER)
    # As it reads batches, trains, and has made all and promoted nothing.
    for moment in ("check_batches", "train_vae", "write_report"):
        with start(project, *arguments(**BETTER)) as job:
            read_until(job, f"Running node: {moment}")
            job.kill()
        assert in_service(project) == before
    assert retrain(project, **BETTER)["outcome"] == "promoted"
    assert files_in_service(project) == files_in_service(twin)
    assert in_use(project) == ["monday"]


def fill(ballast, room=0):
    """Write a file that leaves so many bytes of its disk free."""
    ballast.unlink(missing_ok=True)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(ballast).free - room)


def test_a_disk_that_is_read_only_or_full_leaves_the_model_in_service(promoted, tmp_path):
    project = copy_project(tmp_path / "project")
    data = project / "data/test"
    ballast = data / "ballast"
    with small_disk(data, "128m"):
        shutil.copytree(promoted / "data/test", data, symlinks=True, dirs_exist_ok=True)
        before = in_service(project)
        subprocess.run(["mount", "-o", "remount,ro", data], check=True)
        line = retrain(project)
        assert (line["outcome"], line["exit_code"]) == ("failed", 1)
        assert "cannot be written to" in line["reason"]
        subprocess.run(["mount", "-o", "remount,rw", data], check=True)
        for room in (8192, 4 << 20):  # for the beginning of a file, and for the images alone
            fill(ballast, room)
            line = retrain(project, **BETTER)
            assert (line["outcome"], line["exit_code"]) == ("failed", 1), line["log"]
            assert "No space left" in line["reason"], line
            assert in_service(project) == before
        # The person who takes a bad model out of service need not make room first.
        fill(ballast)
        line = retrain(project, "roll-back")
        assert (line["outcome"], line["exit_code"]) == ("rolled_back", 0), line
        assert in_service(project) == line["champion"] != before
        ballast.unlink()
        assert retrain(project, **BETTER)["outcome"] == "promoted"
