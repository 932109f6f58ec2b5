"""The file that the textfile collector reads, whatever becomes of the run."""

import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mnist_vae.jobs.records import Outcome
from mnist_vae.monitoring import textfile
from mnist_vae.monitoring.figures import HELP
from mnist_vae.monitoring.textfile import write_metrics
from mnist_vae.params import MonitoringParams
from tests.monitoring.conftest import ENDED, read, record

OUTCOMES = sorted(set(Outcome) - {Outcome.LOCKED})
JOBS = ("retraining", "scoring")


def write(data, outcome="promoted", job="retraining", params=None, **more):
    line = record(outcome, **more) if outcome else {}
    write_metrics(data.root, job, line, params or MonitoringParams())
    return data.root / f"08_reporting/prometheus/mnist_vae_{job}.prom"


def nothing(data):
    pass


def served(data):
    data.champion()
    data.batch("01_raw/incoming", "monday")
    data.journal("retraining", record("promoted", started="2026-10-25T03:00:00+00:00"))


def damaged(data):
    data.champion()
    data.write("06_models/releases/000007-abc/release.json", "{")
    data.write("08_reporting/retraining/journal.jsonl", '{"outcome": "prom')
    data.write("08_reporting/scoring/journal.jsonl", "\0\0\0")
    data.write("02_intermediate/batch_intake.json", "")


@pytest.fixture
def promtool():
    """A check of a file by promtool, which lints the names and the texts."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is needed: it comes with Debian's package prometheus")

    def check(path):
        finished = subprocess.run(
            [program, "check", "metrics"], stdin=path.open(), capture_output=True, text=True
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert finished.stdout + finished.stderr == ""

    return check


@pytest.mark.parametrize("state", [nothing, served, damaged])
@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("job", JOBS)
def test_every_outcome_is_told_in_every_state(data, caplog, outcome, state, job):
    state(data)
    values = read(write(data, outcome, job))
    outcomes = {key[1]: value for key, value in values.items() if key[0].endswith("run_outcome")}
    assert outcomes == {str(one): float(one == outcome) for one in OUTCOMES}
    assert values["mnist_vae_last_run_timestamp_seconds",] == ENDED
    assert values["mnist_vae_disk_size_bytes",] > values["mnist_vae_disk_free_bytes",] > 0
    assert ("mnist_vae_images_scored_total",) in values or job == "retraining"
    warnings = [entry.message for entry in caplog.records]
    assert len(warnings) == (1 if state is damaged and job == "retraining" else 0), warnings


def test_the_last_success_is_kept_by_the_runs_that_fail(data):
    served(data)
    ended = ENDED - 7 * 86400
    assert read(write(data, "failed"))["mnist_vae_last_success_timestamp_seconds",] == ended
    assert read(write(data, "kept"))["mnist_vae_last_success_timestamp_seconds",] == ended
    assert read(write(data, "nothing_new"))["mnist_vae_last_success_timestamp_seconds",] == ENDED


@pytest.mark.parametrize("state", [nothing, served, damaged])
@pytest.mark.parametrize("job", JOBS)
def test_promtool_has_nothing_against_the_file(data, promtool, state, job):
    state(data)
    more = {"images": 3, "release": "000007-abc", "batches": {"a": "accepted", "b": "bad"}}
    promtool(write(data, "kept", job, candidate={"negative_elbo": 1.0}, gain=0.5, **more))


def test_the_files_of_both_jobs_agree_and_can_be_told_apart(data):
    served(data)
    more = {"candidate": {"negative_elbo": 1.0}, "gain": 0.5, "release": "000007-abc"}
    more |= {"images": 3, "anomalous_images": 1}
    families = [
        {family.name: family for family in text_string_to_metric_families(path.read_text())}
        for path in (write(data, "kept", job, **more) for job in JOBS)
    ]
    names = {name.removesuffix("_total") for name in HELP}
    assert set(families[0]) | set(families[1]) == names
    for name in set(families[0]) & set(families[1]):
        one, other = families[0][name], families[1][name]
        assert (one.documentation, one.type) == (other.documentation, other.type)
        # The textfile collector wants the same labels of one name in all files.
        assert len({frozenset(x.labels) for x in [*one.samples, *other.samples]}) == 1
    for job, all_of_it in zip(JOBS, families, strict=True):
        samples = [sample for family in all_of_it.values() for sample in family.samples]
        assert {sample.labels["pipeline"] for sample in samples} == {job}
        assert {sample.labels["project"] for sample in samples} == {"mnist_vae"}
        assert all(sample.timestamp is None for sample in samples)
        assert len(samples) == len({(x.name, *sorted(x.labels.items())) for x in samples})


def test_a_run_that_was_locked_out_leaves_the_file_to_the_one_under_way(data, caplog):
    file = write(data, "locked")
    assert not file.exists()
    before = write(data, "promoted").read_bytes()
    write(data, "locked")
    assert file.read_bytes() == before
    assert not caplog.records


def test_another_user_may_read_it_whatever_the_umask(data):
    before = os.umask(0o077)
    try:
        file = write(data)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o755


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_that_is_there_keeps_the_rights_that_it_has(data, named):
    folder = data.root / "08_reporting/prometheus"
    folder.mkdir(parents=True)
    folder.chmod(0o750)
    write(data, params=MonitoringParams(textfile_folder=str(folder) if named else None))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_two_projects_share_the_folder_of_node_exporter(data, tmp_path):
    folder = tmp_path / "textfile"
    folder.mkdir()
    for project in ("ours", "theirs"):
        write(data, params=MonitoringParams(textfile_folder=str(folder), project=project))
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["ours_retraining.prom", "theirs_retraining.prom"]
    assert 'project="theirs"' in files[1].read_text()
    assert not (data.root / "08_reporting/prometheus").exists()


def test_a_folder_that_was_named_and_is_not_there_is_one_warning(data, tmp_path, caplog):
    folder = tmp_path / "textfle"
    write(data, params=MonitoringParams(textfile_folder=str(folder)))
    (warning,) = caplog.records
    assert warning.message.startswith(
        f"The figures for Prometheus were not written to {folder}: expected to be allowed to, "
        "received [Errno 2] No such file or directory"
    )
    assert "\n" not in warning.message
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_to_is_one_warning(data, caplog):
    data.write("08_reporting/prometheus", "a file")
    write(data)
    (warning,) = caplog.records
    assert "were not written" in warning.message


@pytest.mark.parametrize("line", [None, {"images": 10**400}, {"peak_memory_mb": "x"}])
def test_no_line_is_so_odd_that_the_job_would_feel_it(data, caplog, line):
    if line is None:
        write(data, outcome=None)
    else:
        write(data, job="scoring", **line)
    assert len(caplog.records) == 1


def test_a_write_that_fails_leaves_the_old_file_and_no_other(data, monkeypatch, caplog):
    file = write(data, "promoted")
    before = file.read_bytes()
    written = []

    def full(path, text):
        written.append(path.name)
        path.open("wb").write(text[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    write(data, "failed")
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    (name,) = written
    assert not name.endswith(".prom"), "the collector would read half of it"
    assert "No space left" in caplog.records[0].message


def test_what_a_killed_run_left_is_removed_by_the_next_one(data, monkeypatch):
    file = write(data)
    with monkeypatch.context() as killed:
        killed.setattr(textfile, "move", lambda *_: os._exit(9))
        if (child := os.fork()) == 0:
            write(data, "failed")
            os._exit(0)
        os.waitpid(child, 0)
    assert len(list(file.parent.iterdir())) == 2
    write(data)
    assert list(file.parent.iterdir()) == [file]


def test_a_reader_never_sees_a_part_of_it(data):
    file = write(data)
    length, seen, done = file.stat().st_size, set(), threading.Event()

    def watch():
        while not done.is_set():
            seen.add(len(file.read_bytes()))

    reader = threading.Thread(target=watch)
    reader.start()
    for _ in range(100):
        write(data)
    done.set()
    reader.join()
    # The free space of the disk changes, and with it a digit or two.
    assert min(seen) > length - 20
