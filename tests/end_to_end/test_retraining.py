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

import numpy as np
import pandas as pd
import pytest

from mnist_vae.datasets.archive_parts import read_sample
from mnist_vae.datasets.idx import IdxDataset
from mnist_vae.datasets.releases import ReleaseDataset
from tests.projects import copy_project, kedro

pytestmark = pytest.mark.slow

PARAMS = {
    "split.max_images": 400,
    "training.epochs": 1,
    "training.jit_compile": False,
    "retraining.min_gain": 0,
}
# Of the job, at random moments; RETRAINING_KILLS=30 for more of them.
KILLS = int(os.environ.get("RETRAINING_KILLS", "2"))


def command(pipeline="retraining", **params):
    text = ",".join(f"{key}={value}" for key, value in {**PARAMS, **params}.items())
    return ["run", f"--pipelines={pipeline}", "--env=test", f"--params={text}"]


def last_line(stdout):
    return json.loads(stdout.splitlines()[-1])


def retrain(project, pipeline="retraining", environment=None, **params):
    """Run the job and return its last line; that it ends as that says is checked."""
    finished = kedro(project, *command(pipeline, **params), **(environment or {}))
    line = last_line(finished.stdout)
    assert finished.returncode == line["exit_code"], finished.stderr
    return {**line, "stderr": finished.stderr}


def start(project, **params):
    return subprocess.Popen(
        [Path(sys.executable).with_name("kedro"), *command(**params)],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def scripted(project, before, after="", **params):
    """Run the job in a process that does something of its own before, or after."""
    script = (
        f"import sys\n{before}\nfrom kedro.framework.cli.cli import main\n"
        f"sys.argv = ['kedro', *{command(**params)!r}]\n"
        f"try:\n    main()\nfinally:\n    pass; {after}\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script], cwd=project, capture_output=True, text=True, timeout=600
    )


def models(project):
    return project / "data/test/06_models"


def in_service(project):
    """The version in service, after a look at all that a reader relies on."""
    release = ReleaseDataset(path=str(models(project))).load()
    release.check()
    version = release.manifest["model_version"]
    assert set(release.load("latent_embeddings.parquet")["model_version"]) == {version}
    assert release.load("training_summary.json")["model_version"] == version
    encoder, decoder = release.load("encoder.keras"), release.load("decoder.keras")
    assert np.isfinite(np.asarray(decoder(encoder(np.zeros((1, 784), np.float32))[2]))).all()
    return version


@pytest.fixture(scope="module")
def fresh(served):
    """Rows of the sample that are in no split."""
    splits = served / "data/test/05_model_input/archive"
    used = set()
    for path in splits.glob("*.parquet"):
        used.update(pd.read_parquet(path, columns=["image_id"])["image_id"])
    return [row for row in range(5000) if row not in used]


def deliver(project, name, rows, labelled=True, **replaced):
    """Put a batch of these rows of the sample among the incoming ones."""
    sample = read_sample()
    images = sample["train_images"].values[rows].copy()
    for row, image in replaced.items():
        images[int(row.removeprefix("image_"))] = image
    folder = project / "data/test/01_raw/incoming" / f".{name}"
    IdxDataset(filepath=f"{folder}/images-idx3-ubyte.gz").save(images)
    if labelled:
        labels = sample["train_labels"].values[rows]
        IdxDataset(filepath=f"{folder}/labels-idx1-ubyte.gz").save(labels)
    folder.rename(folder.with_name(name))
    return folder.with_name(name)


def in_use(project):
    return sorted(
        path.name.split(".")[0]
        for path in (project / "data/test/02_intermediate/batches").glob("*.parquet")
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A project with a first model in service; tests must not change it."""
    project = copy_project(tmp_path_factory.mktemp("served") / "project")
    line = retrain(project)
    assert line["outcome"] == "promoted", line
    assert line["champion"] == in_service(project)
    return project


@pytest.fixture
def project(served, tmp_path):
    """A copy of it that the test may change."""
    return shutil.copytree(served, tmp_path / "project", symlinks=True)


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
    line = retrain(project)
    assert line["outcome"] in ("promoted", "kept"), line
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
    assert (quarantine / "truncated/labels-idx1-ubyte.gz").is_file()
    assert good.is_dir(), "nothing is deleted"
    in_service(project)
    # The same images under another name are bad, and there is nothing else.
    deliver(project, "again", fresh[:60])
    line = retrain(project)
    assert (line["outcome"], line["exit_code"]) == ("bad_data", 65)
    assert line["batches"] == {"again": "bad"}
    assert retrain(project)["outcome"] == "nothing_new"


def test_a_better_candidate_is_promoted_and_rolled_back_and_not_promoted_again(project):
    before = in_service(project)
    line = retrain(project, **{"training.epochs": 3})
    assert line["outcome"] == "promoted", line
    assert line["gain_interval"][0] > 0
    after = in_service(project)
    assert after == line["champion"] != before
    page = ((models(project) / "champion").resolve() / "report.html").read_text()
    assert f"Candidate {after} is in service" in page
    assert page.count("data:image/png;base64,") == 8
    line = retrain(project, "rollback")
    assert (line["outcome"], line["champion"]) == ("rolled_back", before)
    assert in_service(project) == before
    assert retrain(project, **{"training.epochs": 3})["outcome"] == "nothing_new"
    line = retrain(project, "rollback")
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert "There is no release to go back to" in line["reason"]
    assert in_service(project) == before


def test_a_warm_start_goes_on_from_the_weights_in_service(project):
    line = retrain(project, **{"retraining.start": "champion", "training.learning_rate": 0.001})
    assert line["outcome"] == "promoted", line
    assert line["gain"] > 0
    in_service(project)


def test_two_jobs_started_in_the_same_second_do_not_meet(project):
    processes = [start(project, **{"retraining.force": True}) for _ in range(2)]
    outputs = [process.communicate(timeout=600) for process in processes]
    lines = sorted((last_line(out) for out, _ in outputs), key=lambda line: line["exit_code"])
    assert [line["exit_code"] for line in lines] == [0, 75], outputs
    assert "another run is under way: process " in lines[1]["reason"]
    in_service(project)


def read_until(process, text):
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"the job never said {text!r}")


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


def damage(project, filename="encoder.keras"):
    path = (models(project) / "champion").resolve() / filename
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("filename", ["encoder.keras", "release.json"])
def test_a_corrupted_champion_is_replaced_without_help(project, filename):
    damage(project, filename)
    line = retrain(project)
    assert line["outcome"] == "promoted", line
    assert "was damaged" in line["repaired"]
    assert in_service(project) == line["champion"]
    assert len(list((models(project) / "releases").glob("*.damaged"))) == 1
    assert retrain(project)["outcome"] == "nothing_new"


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
            assert retrain(project, "rollback")["outcome"] == "rolled_back"
            continue
        assert in_service(project) in (before, expected["champion"])
    line = retrain(project, **{**params, "retraining.force": True})
    assert line["outcome"] in ("promoted", "kept")
    assert in_service(project) == expected["champion"]
    assert in_use(project) == ["monday"]


def test_a_job_that_is_asked_to_end_says_so(project):
    process = start(project, **{"training.epochs": 500})
    read_until(process, "Running node: train_vae")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=600)
    line = last_line(out)
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert "asked to end (SIGTERM)" in line["reason"]
    in_service(project)


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


@pytest.fixture
def small_disk(served, tmp_path):
    """The project, whose data are on a small disk of their own."""
    project = copy_project(tmp_path / "project")
    data = project / "data/test"
    data.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", data]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk is needed: mounting one takes a root that may mount")
    shutil.copytree(served / "data/test", data, symlinks=True, dirs_exist_ok=True)
    yield project
    subprocess.run(["umount", data], check=True)


@pytest.mark.parametrize(
    "dataset", ["candidate_encoder", "candidate_latent_embeddings", "promotion"]
)
def test_a_disk_that_is_full_when_it_saves_leaves_the_old_model(small_disk, dataset):
    before = in_service(small_disk)
    params = {"training.epochs": 3}
    fill = (
        "from kedro.framework.hooks import hook_impl\n"
        "import mnist_vae.settings as settings\n"
        "class Fill:\n"
        "    @hook_impl\n"
        "    def before_dataset_saved(self, dataset_name):\n"
        f"        if dataset_name == {dataset!r}:\n"
        "            with open('data/test/ballast', 'wb', buffering=0) as file:\n"
        "                try:\n"
        "                    while True:\n"
        "                        file.write(bytes(4096))\n"
        "                except OSError:\n"
        "                    pass\n"
        "settings.HOOKS = (*settings.HOOKS, Fill())\n"
    )
    finished = scripted(small_disk, fill, **params)
    line = last_line(finished.stdout)
    assert (finished.returncode, line["outcome"]) == (1, "failed"), finished.stderr
    assert "No space left" in line["reason"], line
    assert in_service(small_disk) == before
    (small_disk / "data/test/ballast").unlink()
    line = retrain(small_disk, **params)
    assert line["outcome"] == "promoted"
    assert in_service(small_disk) == line["champion"] != before


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


def test_an_unreachable_webhook_changes_nothing_and_its_address_is_written_nowhere(project):
    secret = {"MNIST_VAE_WEBHOOK_URL": "http://127.0.0.1:9/secret"}
    line = retrain(project, environment=secret, **{"training.epochs": 3})
    assert line["outcome"] == "promoted", line
    assert "The webhook was not told" in line["stderr"]
    assert "secret" not in line["stderr"]
    for path in (project / "data").rglob("*"):
        assert not path.is_file() or b"secret" not in path.read_bytes(), path


# Faults that came about between features, each of which works alone.


def test_a_rolled_back_release_serves_when_the_other_is_damaged(project):
    better = {"training.epochs": 3}
    second = retrain(project, **better)["champion"]
    retrain(project, "rollback")
    damage(project)
    line = retrain(project, **better)
    assert line["champion"] == second, line
    assert "a person" in line["repaired"]
    assert in_service(project) == second
    assert retrain(project, **better)["outcome"] == "nothing_new"


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
    line = retrain(project, "rollback")
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


def test_a_champion_that_is_a_folder_ends_the_run_before_any_work(project):
    link = models(project) / "champion"
    folder = link.resolve()
    link.unlink()
    shutil.copytree(folder, link)
    for pipeline in ("retraining", "rollback"):
        line = retrain(project, pipeline)
        assert (line["outcome"], line["exit_code"]) == ("failed", 1)
        assert "ln -s" in line["reason"]
        assert "Running node" not in line["stderr"]
    shutil.rmtree(link)
    link.symlink_to(Path("releases") / folder.name)
    assert retrain(project)["outcome"] == "nothing_new"


def test_what_could_not_be_compared_is_not_trained(project):
    line = retrain(project, **{"model.reconstruction": "mse"})
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert "could not be compared with the model in service" in line["reason"]
    assert "Running node: train_vae" not in line["stderr"]


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


def ids_in_use(project):
    folder = project / "data/test/02_intermediate/batches"
    tables = [pd.read_parquet(path, columns=["image_id"]) for path in folder.glob("*.parquet")]
    return [int(value) for table in tables for value in table["image_id"]]


def test_a_kill_between_two_accepted_batches_gives_no_id_twice(project, fresh):
    deliver(project, "2025-11-02", fresh[:30])
    deliver(project, "2025-11-02-2", fresh[30:70])
    killed = scripted(project, die_after("batches_in_use"))
    assert killed.returncode == 9, killed.stderr
    given = ids_in_use(project)
    line = retrain(project)
    assert line["outcome"] in ("promoted", "kept"), line
    assert sorted(line["batches"].values()) == ["accepted", "in use"]
    ids = ids_in_use(project)
    assert len(set(ids)) == len(ids) == 70
    assert set(given) <= set(ids)


def test_a_batch_put_in_quarantine_by_a_run_that_was_killed_is_reported_once(project, fresh):
    cut = deliver(project, "cut", fresh[:10]) / "images-idx3-ubyte.gz"
    cut.write_bytes(cut.read_bytes()[:-50])
    killed = scripted(project, die_after("quarantine"))
    assert killed.returncode == 9, killed.stderr
    line = retrain(project)
    assert (line["outcome"], line["exit_code"]) == ("bad_data", 65)
    assert line["batches"] == {"cut": "bad"}
    assert retrain(project)["outcome"] == "nothing_new"


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
    line = retrain(project)
    assert line["outcome"] in ("promoted", "kept"), line
    assert line["batches"] == {
        "dangling": "bad",
        "good": "accepted",
        "odd\\x0aname\\xff": "accepted",
        "picture": "bad",
        long: "accepted",
    }
    assert len(ids_in_use(project)) == 90
    in_service(project)
    assert retrain(project)["batches"] == {}


def test_a_withdrawn_batch_is_not_trained_on_and_does_not_come_back(project, fresh):
    deliver(project, "monday", fresh[:40])
    deliver(project, "tuesday", fresh[40:80])
    assert set(retrain(project)["batches"].values()) == {"accepted"}
    before = ids_in_use(project)
    line = retrain(project, "withdrawal", **{"retraining.withdraw": "monday"})
    assert (line["outcome"], line["exit_code"]) == ("withdrawn", 0)
    assert in_use(project) == ["tuesday"]
    deliver(project, "again", fresh[:40])
    deliver(project, "wednesday", fresh[80:100])
    line = retrain(project)
    assert line["batches"] == {"again": "bad", "wednesday": "accepted"}
    assert line["outcome"] in ("promoted", "kept")
    new = set(ids_in_use(project)) - set(before)
    assert min(new) > max(before), "the ids of what left are not given again"
    line = retrain(project, "withdrawal", **{"retraining.withdraw": "friday"})
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert "a batch in use (tuesday." in line["reason"]


def test_drifted_batches_that_keep_candidates_out_raise_an_alarm_the_third_time(project, fresh):
    strict = {"retraining.min_gain": 1000, "retraining.drift_effect": 0.5}
    folder = deliver(project, "dark", fresh[:200])
    images = folder / "images-idx3-ubyte.gz"
    IdxDataset(filepath=str(images)).save(255 - IdxDataset(filepath=str(images)).load())
    recipes = [{**strict, "training.batch_size": size} for size in (100, 101, 102)]
    assert [retrain(project, **recipe)["outcome"] for recipe in recipes[:2]] == ["kept", "kept"]
    line = retrain(project, **recipes[2])
    assert (line["outcome"], line["exit_code"]) == ("stalled", 66)
    assert "dark." in line["reason"]
    line = retrain(project, **recipes[2])
    assert line["outcome"] == "stalled", "until somebody looks"
    retrain(project, "withdrawal", **{"retraining.withdraw": "dark"})
    assert retrain(project, **recipes[2])["outcome"] == "kept"
