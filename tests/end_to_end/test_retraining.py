"""The retraining in processes of its own, and the faults that it survives."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kedro.framework.hooks import hook_impl

from mnist_vae import settings
from mnist_vae.jobs import releases
from tests.projects import copy_project, kedro
from tests.retrainings import arguments, deliver, ids_in_use, in_service, in_use, last_line, models
from tests.retrainings import retrain as retrain_here

pytestmark = pytest.mark.slow

# Of the job, at random moments; RETRAINING_KILLS=30 for more of them.
KILLS = int(os.environ.get("RETRAINING_KILLS", "2"))


def retrain(project, *command, **params):
    """Run the job and return its last line; that it ends as that says is checked."""
    finished = kedro(project, *arguments(*command, **params))
    line = last_line(finished.stdout)
    assert finished.returncode == line["exit_code"], finished.stderr
    return {**line, "stderr": finished.stderr}


def start(project, **params):
    return subprocess.Popen(
        [Path(sys.executable).with_name("kedro"), *arguments(**params)],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def scripted(project, before, after="", **params):
    """Run the job in a process that does something of its own before, or after."""
    script = (
        f"import sys\n{before}\nfrom kedro.framework.cli.cli import main\n"
        f"sys.argv = ['kedro', *{arguments(**params)!r}]\n"
        f"try:\n    main()\nfinally:\n    pass; {after}\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script], cwd=project, capture_output=True, text=True, timeout=600
    )


@pytest.fixture
def project(served_copy):
    return served_copy


def test_nothing_new_is_said_at_once_and_without_tensorflow(project):
    before = in_service(project)
    line = retrain(project)
    assert (line["outcome"], line["champion"]) == ("nothing_new", before)
    assert "code, parameters and data are those in service" in line["stderr"]
    finished = scripted(project, "", "print(sorted({'keras', 'tensorflow'} & set(sys.modules)))")
    assert finished.stdout.endswith("[]\n"), finished.stderr
    journal = project / "data/test/08_reporting/retraining/journal.jsonl"
    outcomes = [json.loads(text)["outcome"] for text in journal.read_text().splitlines()]
    assert outcomes == ["promoted", "nothing_new", "nothing_new"]


def test_two_jobs_started_in_the_same_second_do_not_meet(project):
    processes = [start(project, **{"retraining.force": True}) for _ in range(2)]
    outputs = [process.communicate(timeout=600) for process in processes]
    lines = sorted((last_line(out) for out, _ in outputs), key=lambda line: line["exit_code"])
    assert [line["exit_code"] for line in lines] == [0, 75], outputs
    assert "another run is under way: process " in lines[1]["reason"]
    in_service(project)


def read_until(process, text):
    said = []
    for line in process.stderr:
        said.append(line)
        if text in line:
            return
    raise AssertionError(f"the job never said {text!r}: {''.join(said)[-2000:]}")


def test_a_batch_that_comes_while_the_job_runs_is_used_by_the_next_one(project, fresh):
    deliver(project, "early", fresh[:40])
    process = start(project)
    read_until(process, "Running node: train_vae")
    deliver(project, "late", fresh[40:80])
    out, _ = process.communicate(timeout=600)
    assert last_line(out)["batches"] == {"early": "accepted"}
    assert in_use(project) == ["early"]
    assert retrain(project)["batches"] == {"late": "accepted"}
    assert in_use(project) == ["early", "late"]


def test_a_job_killed_at_random_moments_ends_as_if_it_had_not_been(project, fresh):
    moment = random.Random(KILLS)
    deliver(project, "monday", fresh[:60])
    params = {"training.epochs": 6}
    before = in_service(project)
    started = time.monotonic()
    twin = shutil.copytree(project, project.with_name("twin"), symlinks=True)
    expected = retrain(twin, **params)
    seconds = time.monotonic() - started
    killed = 0
    while killed < KILLS:
        process = start(project, **params)
        try:
            process.communicate(timeout=moment.uniform(0.2, seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
        else:  # it was done sooner: from the start again
            shutil.rmtree(project)
            shutil.copytree(twin, project, symlinks=True)
            assert retrain(project, "roll-back")["outcome"] == "rolled_back"
            continue
        assert in_service(project) in (before, expected["champion"])
    done = in_service(project) == expected["champion"]
    line = retrain(project, **{**params, "retraining.force": True})
    assert line["outcome"] == ("kept" if done else "promoted"), line
    assert in_service(project) == expected["champion"]
    assert in_use(project) == ["monday"]


def test_a_rollback_does_not_wait_for_a_training_which_then_promotes_nothing(project):
    """A person takes out of service what the candidate was to be compared with."""
    folder = models(project)
    first = releases.champion(folder)
    shutil.copytree(first.folder, folder / "candidate")
    twin = releases.Candidate(first.manifest["model_version"], "twin", first.manifest)
    releases.promote(folder, twin, first.name, keep=5)
    run = start(project, **{"retraining.force": True})
    read_until(run, "Running node: write_report")  # it has been judged
    run.send_signal(signal.SIGSTOP)
    line = retrain(project, "roll-back")
    run.send_signal(signal.SIGCONT)
    assert (line["outcome"], releases.champion(folder).name) == ("rolled_back", first.name)
    stdout, stderr = run.communicate(timeout=300)
    assert run.returncode == 0, stderr
    assert "meanwhile" in last_line(stdout)["reason"]
    assert last_line(stdout)["outcome"] == "kept"
    assert releases.champion(folder).name == first.name


def test_a_job_that_ends_before_its_promotion_does_not_train_again(project, monkeypatch):
    before, params = in_service(project), {"training.epochs": 3}

    def fail(*_):
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(releases, "promote", fail)
        assert retrain_here(project, **params)["outcome"] == "failed"
    assert in_service(project) == before
    line = retrain_here(project, **params)
    assert "Training resumes after epoch 3" in line["log"]
    assert line["outcome"] == "promoted"
    assert not list((models(project) / "unfinished").glob("*_backup.npz"))


def test_a_clock_set_back_confuses_nobody(project, fresh):
    before = in_service(project)
    deliver(project, "monday", fresh[:40])
    back = (
        "import datetime, time_machine\n"
        "past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)\n"
        "time_machine.travel(past, tick=True).start()"
    )
    finished = scripted(project, back, **{"training.epochs": 3})
    line = last_line(finished.stdout)
    assert line["started"].startswith("2020-01-01")
    assert line["outcome"] == "promoted", finished.stderr
    assert line["batches"] == {"monday": "accepted"}
    assert in_service(project) == line["champion"] != before
    assert retrain(project, **{"training.epochs": 3})["outcome"] == "nothing_new"


@pytest.fixture(scope="module")
def small_disk(served, tmp_path_factory):
    """The project, whose data are on a small disk of their own."""
    project = copy_project(tmp_path_factory.mktemp("small") / "project")
    data = project / "data/test"
    data.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", data]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk is needed: mounting one takes a root that may mount")
    shutil.copytree(served / "data/test", data, symlinks=True, dirs_exist_ok=True)
    yield project
    # Lazily: of what this process has read, some may still be mapped into memory.
    subprocess.run(["umount", "--lazy", data], check=True)


def test_data_that_are_read_only_are_said_and_the_model_stays(small_disk):
    before = in_service(small_disk)
    data = small_disk / "data/test"
    subprocess.run(["mount", "-o", "remount,ro", data], check=True)
    line = retrain(small_disk)
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert "cannot be written to" in line["reason"]
    assert in_service(small_disk) == before
    subprocess.run(["mount", "-o", "remount,rw", data], check=True)
    assert retrain(small_disk)["outcome"] == "nothing_new"


class Fill:
    """Leaves so many bytes of the disk free when a dataset is to be saved."""

    def __init__(self, dataset, ballast, room):
        self.dataset, self.ballast, self.room = dataset, ballast, room

    @hook_impl
    def before_dataset_saved(self, dataset_name):
        if dataset_name == self.dataset:
            fill(self.ballast, self.room)


def fill(ballast, room):
    """Write a file that leaves so many bytes of its disk free."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - room))


# They share the disk, as each leaves the model that it found; the last one finds room again.
@pytest.mark.parametrize(
    ("dataset", "room"),
    [
        ("candidate_train_images", 8192),
        ("candidate_encoder", 0),
        ("retraining_decision", 0),
        (None, 0),
    ],
)
def test_a_disk_that_is_full_when_it_saves_leaves_the_old_model(
    small_disk, dataset, room, monkeypatch
):
    """At once, or with room for the beginning of a file."""
    before = in_service(small_disk)
    ballast = small_disk / "data/test/ballast"
    monkeypatch.setattr(settings, "HOOKS", (*settings.HOOKS, Fill(dataset, ballast, room)))
    line = retrain_here(small_disk, **{"training.epochs": 3})
    if dataset is None:
        assert line["outcome"] == "promoted"
        assert in_service(small_disk) == line["champion"] != before
    else:
        assert (line["outcome"], line["exit_code"]) == ("failed", 1), line["log"]
        assert "No space left" in line["reason"], line
        assert in_service(small_disk) == before
        ballast.unlink()


def test_a_rollback_works_on_a_full_disk(small_disk):
    """The person who takes a bad model out of service need not make room first."""
    params = {"training.epochs": 3}
    retrain(small_disk, **params)
    bad = in_service(small_disk)
    ballast = small_disk / "data/test/ballast"
    fill(ballast, 0)
    line = retrain(small_disk, "roll-back")
    assert (line["outcome"], line["exit_code"]) == ("rolled_back", 0), line
    assert in_service(small_disk) == line["champion"] != bad
    ballast.unlink()
    assert retrain(small_disk, **params)["outcome"] == "nothing_new", "it was declined"
    assert in_service(small_disk) == line["champion"]


def die_after(dataset, times=1):
    """Return a script that has the job killed when this dataset was saved so many times."""
    return (
        "import os\n"
        "from kedro.framework.hooks import hook_impl\n"
        "import mnist_vae.settings as settings\n"
        "saved = []\n"
        "class Die:\n"
        "    @hook_impl(tryfirst=True)\n"
        "    def after_dataset_saved(self, dataset_name, data):\n"
        f"        if dataset_name == {dataset!r} and data:\n"
        "            saved.append(data)\n"
        f"        if len(saved) == {times}:\n"
        "            os._exit(9)\n"
        "settings.HOOKS = (*settings.HOOKS, Die())\n"
    )


def files_in_service(project):
    """Return the checksums by file name, but of files that tell the time; and the weights' name."""
    folder = (project / "data/test/06_models/champion").resolve()
    files = json.loads((folder / "release.json").read_text())["files"]
    told = {
        "report.html",
        "README.md",
        "run_manifest.json",
        "decision.json",
        "training_summary.json",
    }
    told |= {"encoder.keras", "decoder.keras", "inference_encoder.keras"}
    return {name: digest for name, digest in files.items() if name not in told}, in_service(project)


def test_a_job_killed_before_its_promotion_ends_as_if_it_had_not_been(project):
    before, params = in_service(project), {"training.epochs": 3}
    twin = shutil.copytree(project, project.with_name("twin"), symlinks=True)
    killed = scripted(project, die_after("candidate_encoder_onnx"), **params)
    assert killed.returncode == 9, killed.stderr
    assert in_service(project) == before
    for one in (project, twin):
        assert retrain(one, **params)["outcome"] == "promoted"
    assert files_in_service(project) == files_in_service(twin)
    release = (project / "data/test/06_models/champion").resolve()
    assert not list(release.glob(".*")), "nothing that is half written goes in service"


def test_a_kill_between_two_accepted_batches_gives_no_id_twice(project, fresh):
    deliver(project, "2025-11-02", fresh[:30])
    deliver(project, "2025-11-02-2", fresh[30:70])
    killed = scripted(project, die_after("batches_in_use"))
    assert killed.returncode == 9, killed.stderr
    given = ids_in_use(project)
    line = retrain(project, **{"retraining.min_gain": 1000})
    assert line["outcome"] == "kept", line
    assert sorted(line["batches"].values()) == ["accepted", "in use"]
    ids = ids_in_use(project)
    assert len(set(ids)) == len(ids) == 70
    assert set(given) <= set(ids)


def test_a_bad_batch_that_a_killed_run_has_not_reported_is_reported_by_the_next(project, fresh):
    cut = deliver(project, "cut", fresh[:10]) / "images-idx3-ubyte.gz"
    cut.write_bytes(cut.read_bytes()[:-50])
    killed = scripted(project, die_after("candidate_train_images"), **{"training.epochs": 3})
    assert killed.returncode == 9, killed.stderr
    assert cut.is_file(), "where it came"
    line = retrain(project)
    assert (line["outcome"], line["exit_code"]) == ("bad_data", 65)
    assert line["batches"] == {"cut": "bad"}
    assert (project / "data/test/01_raw/quarantine/cut").is_dir()
    assert retrain(project)["outcome"] == "nothing_new"
