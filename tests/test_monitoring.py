"""The figures for Prometheus: what they are, and the file that node_exporter reads."""

import json
import os
import stat

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mnist_vae.jobs.records import Outcome, Run
from mnist_vae.monitoring import HELP, write_metrics
from mnist_vae.params import MonitoringParams
from tests.prometheus import promtool, read

ENDED = 1793502030.5  # of every run
JOBS = ("retraining", "scoring")
JUDGED = {"candidate": {"negative_elbo": 141.0, "active_units": 2}, "gain": -1.5}
DRIFT = {"p_value": 0.0, "distances": {}, "negative_elbo": 200.0}
OF_A_RUN = {"exit_code": 0, "run_id": "now", "reason": "so it is", "seconds": 30.5}


def run(outcome, day=1, **more):
    """Return a line of the journal."""
    started = f"2026-11-{day:02d}T03:00:00+00:00"
    return {"outcome": outcome, "started": started, "peak_memory_mb": 2, **OF_A_RUN, **more}


class Data:
    """A data folder, with the means to fill it and to write its figures."""

    def __init__(self, root):
        self.root = root

    def write(self, path, content=""):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    def champion(self):
        release = "06_models/releases/000007-abc"
        facts = {"model_version": "abc", "fingerprint": "f", "previous": None, "files": {"x": "y"}}
        self.write(f"{release}/release.json", {**facts, "candidate": {"negative_elbo": 139.5}})
        self.write(f"{release}/metrics.json", {"splits": {"test": {"negative_elbo": 134.82}}})
        (self.root / "06_models/champion").symlink_to("releases/000007-abc")

    def batches(self, folder, *names):
        for name in names:
            self.write(f"01_raw/{folder}/{name}/images-idx3-ubyte")

    def metrics(self, last, job="retraining", **params):
        """Write the figures of a run after those that the journal has; return the file."""
        write_metrics(self.root, job, Run.model_validate(last), MonitoringParams(**params))
        return self.root / f"08_reporting/prometheus/mnist_vae_{job}.prom"

    def figures(self, last, job="retraining", journal=()):
        """Write them, and return them by name, without the prefix, and labels."""
        if journal:
            text = "".join(json.dumps(line) + "\n" for line in journal)
            self.write(f"08_reporting/{job}/journal.jsonl", text)
        values = read(self.metrics(last, job))
        return {(key[0].removeprefix("mnist_vae_"), *key[1:]): values[key] for key in values}


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)


@pytest.mark.parametrize("job", JOBS)
def test_every_outcome_but_locked_is_written_in_every_state(data, caplog, job):
    data.figures(run("promoted"), job, journal=[run("promoted")])
    data.champion()
    for outcome in set(Outcome) - {Outcome.LOCKED}:
        values = data.figures(run(outcome), job)
        assert values["last_run_outcome", outcome] == 1
        assert sum(value for key, value in values.items() if key[0] == "last_run_outcome") == 1
        assert values["last_run_timestamp_seconds",] == ENDED
        assert values["last_run_duration_seconds",] == 30.5
        assert values["last_run_peak_memory_bytes",] == 2 * 2**20
        assert values["disk_size_bytes",] > values["disk_free_bytes",] > 0
    file = data.metrics(run("failed"), job)
    with file.open() as written:
        assert promtool("check", "metrics", stdin=written) == ""
    before = file.read_bytes()
    assert data.metrics(run("locked"), job).read_bytes() == before, "another run is under way"
    assert not caplog.records


def test_the_files_of_both_jobs_agree_and_can_be_told_apart(data):
    data.champion()
    more = {**JUDGED, "release": "000007-abc", "model_version": "abc"}
    more |= {"images": 3, "anomalous_images": 1}
    found = {}
    for job in JOBS:
        text = data.metrics(run("kept", **more), job).read_text()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                assert sample.labels["project"] == "mnist_vae"
                assert sample.labels["pipeline"] == job
                # The textfile collector wants the same of one name in all files.
                facts = family.documentation, family.type, frozenset(sample.labels)
                assert found.setdefault(sample.name, facts) == facts
    assert found.keys() == HELP.keys()


ROW = ("candidates_kept_in_a_row",)
SUCCESS = ("last_success_timestamp_seconds",)
KEPT, PROMOTED, STALLED = (run(outcome, **JUDGED) for outcome in ("kept", "promoted", "stalled"))
NOTHING, FAILED, BACK = (run(outcome, 2) for outcome in ("nothing_new", "failed", "rolled_back"))
NONE = [
    run(outcome, 5) for outcome in ("failed", "bad_data", "stalled", "rolled_back", "withdrawn")
]
BAD = run("bad_data", batches={"a": "bad", "b": "bad", "c": "accepted"}, **JUDGED)
OF_BAD = {
    ("negative_elbo_nats", "judge", "candidate"): 141.0,
    ("candidate_gain_nats",): -1.5,
    ("last_run_batches", "bad"): 2,
    ("last_run_batches", "accepted"): 1,
}
NEW = {"release": "000002-new", "model_version": "new", "images": 3}
TWO = [run("scored", images=5, anomalous_images=2), run("failed", 2, images=0)]


@pytest.mark.parametrize(
    ("job", "lines", "expected"),
    [
        ("retraining", [KEPT, NOTHING, run("locked", 2), KEPT], {ROW: 2}),
        ("retraining", [KEPT, *NONE[:2], NONE[4], KEPT], {ROW: 2}),
        ("retraining", [KEPT, KEPT, STALLED], {ROW: 3}),
        ("retraining", [KEPT, NONE[2]], {ROW: 1}),  # nothing was tried again
        ("retraining", [KEPT, PROMOTED, FAILED], {ROW: 0}),
        ("retraining", [KEPT, BACK, KEPT], {ROW: 1}),
        ("retraining", NONE, {SUCCESS: 0}),
        *(("retraining", [run(one), *NONE], {SUCCESS: ENDED}) for one in ("promoted", "kept")),
        *(("scoring", [run(one), *NONE], {SUCCESS: ENDED}) for one in ("scored", "nothing_new")),
        # Candidate and batches are those of the last run that had any.
        ("retraining", [BAD, FAILED], OF_BAD),
        ("retraining", [BAD, run("failed", 2, batches={}), run("withdrawn", 3)], OF_BAD),
        ("retraining", [BAD, PROMOTED], {("last_run_batches", "bad"): 0}),
        ("retraining", [BAD, {**PROMOTED, "gain": None}], {("candidate_gain_nats",): None}),
        (
            "scoring",
            [*TWO, run("scored", 3, **NEW, anomalous_images=1)],
            {
                ("images_scored_total",): 8,
                ("last_run_images",): 3,
                ("anomalous_images_total",): 3,
                ("last_run_anomalous_images",): 1,
                ("release_info", "new", "000002-new"): 1,
            },
        ),
        (  # a model without a threshold
            "scoring",
            [*TWO, run("scored", 3, **NEW, anomalous_images=None)],
            {("anomalous_images_total",): 2, ("last_run_anomalous_images",): None},
        ),
    ],
)
def test_the_figures_follow_from_the_journal(data, job, lines, expected):
    values = data.figures(lines[-1], job, journal=lines)
    assert {key: values.get(key) for key in expected} == expected


def test_a_run_counts_once_whether_the_journal_has_it_or_not(data):
    first, second = (run("scored", day, images=10) for day in (1, 2))
    total = ("images_scored_total",)
    assert data.figures(first, "scoring", journal=[first])[total] == 10
    assert data.figures(second, "scoring")[total] == 20  # after a full disk
    assert data.figures(second, "scoring", journal=[first, second])[total] == 20


def test_lines_that_a_full_disk_or_a_power_failure_leaves_are_passed_over(data):
    line, half = json.dumps(run("kept", **JUDGED)).encode(), b'{"outcome": "promoted", "star'
    journal = data.write("08_reporting/retraining/journal.jsonl")
    journal.write_bytes(b"\n".join([line, half, line, b"\x00\xff\xfe", b"", half]))
    assert data.figures(run("kept", 9, **JUDGED))["candidates_kept_in_a_row",] == 3


def test_the_figures_of_a_retraining_follow_from_the_folder_of_data(data):
    nothing = data.figures(run("kept"))
    names = ("release_number", "drift_effect", "drifted_batches")
    assert [nothing[name,] for name in names] == [0, 0, 0]
    data.champion()
    data.batches("taken", "old")
    data.batches("incoming", "new", "other", ".hidden", "half.part")
    data.batches("quarantine", "bad", "bad-2")
    data.write("01_raw/quarantine/bad.json")
    for name in ("batches/old.0", "batches/older.1", "batches/.partial", "withdrawn_batches/x.2"):
        data.write(f"02_intermediate/{name}.parquet")
    batches = {
        "a": {"outcome": "accepted", "drift": {"drifted": True, "effect": 0.3, **DRIFT}},
        "b": {"outcome": "accepted", "drift": {"drifted": False, "effect": 0.1, **DRIFT}},
        "c": {"outcome": "bad"},
    }
    data.write("02_intermediate/batch_intake.json", {"batches": batches})
    expected = {
        ("release_number",): 7,
        ("release_info", "abc", "000007-abc"): 1,
        ("negative_elbo_nats", "judge", "champion"): 139.5,  # as of its promotion
        ("negative_elbo_nats", "test", "champion"): 134.82,
        ("batches", "waiting"): 2,
        ("batches", "in_use"): 2,
        ("batches", "withdrawn"): 1,
        ("batches", "quarantined"): 2,
        ("drift_effect",): 0.3,
        ("drifted_batches",): 1,
    }
    assert data.figures(run("kept", **JUDGED)).items() >= expected.items()


@pytest.mark.parametrize(
    ("line", "waiting"),
    [({"release": "000002-new"}, 2), ({"model_version": "unknown"}, 3), ({}, 1)],
)
def test_batches_to_embed_wait_until_the_model_in_use_has_embedded_them(data, line, waiting):
    data.batches("to_embed", "a", "b", "c*d")
    data.batches("to_embed_quarantine", "bad")
    for name in ("000001-old/a", "000001-old/b", "000002-new/a"):
        data.write(f"07_model_output/batch_embeddings/{name}.parquet")
    (data.root / "07_model_output/batch_embeddings/current").symlink_to("000001-old")
    values = data.figures(run("failed", **line), "scoring")
    assert values["batches", "quarantined"] == 1
    assert values["batches", "waiting"] == waiting


def test_what_is_damaged_takes_no_other_figure_with_it(data, caplog):
    data.champion()
    data.write("06_models/releases/000007-abc/metrics.json", "{")
    data.write("02_intermediate/batch_intake.json", '{"batches": {"a": 3}}')
    (data.root / "08_reporting/retraining/journal.jsonl").mkdir(parents=True)
    values = data.figures(run("promoted"))
    assert values["last_run_outcome", "promoted"] == 1
    assert values["batches", "waiting"] == 0
    assert values["release_number",] == 7
    assert ("last_success_timestamp_seconds",) not in values, "not known is not never"
    (warning,) = caplog.records
    for problem in ("Is a directory", "Intake", "Expecting property name"):
        assert problem in warning.message


def test_another_user_may_read_it_whatever_the_umask(data):
    before = os.umask(0o077)
    try:
        file = data.metrics(run("kept"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o755


def test_two_projects_share_the_folder_of_node_exporter(data, tmp_path):
    folder = tmp_path / "textfile"
    folder.mkdir()
    for project in ("ours", "theirs"):
        data.metrics(run("kept"), textfile_folder=str(folder), project=project)
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["ours_retraining.prom", "theirs_retraining.prom"]
    assert 'project="theirs"' in files[1].read_text()
    assert not (data.root / "08_reporting/prometheus").exists()


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_that_cannot_be_written_to_is_one_warning(data, tmp_path, caplog, named):
    folder = tmp_path / "textfle" if named else data.write("08_reporting/prometheus", "a file")
    data.metrics(run("kept"), textfile_folder=str(folder) if named else None)
    (warning,) = caplog.records
    problem = "[Errno 2] No such file" if named else "[Errno 17] File exists"
    assert f"were not written to {folder}/mnist_vae_retraining.prom ({problem}" in warning.message
    assert not named or not folder.exists()
