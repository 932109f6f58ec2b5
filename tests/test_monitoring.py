"""The figures for Prometheus: what they are, and the file that node_exporter reads."""

import json
import os
import shutil
import stat
import subprocess
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mnist_vae.jobs.records import Outcome, Run
from mnist_vae.monitoring import HELP, write_metrics
from mnist_vae.params import MonitoringParams
from tests.incoming import images_of, put
from tests.prometheus import read

ENDED = 1793502030.5  # of every run
OUTCOMES = sorted(set(Outcome) - {Outcome.LOCKED})
JOBS = ("retraining", "scoring")
JUDGED = {"candidate": {"negative_elbo": 141.0, "active_units": 2}, "gain": -1.5}
DRIFT = {"p_value": 0.0, "distances": {}, "negative_elbo": 200.0}


def run(outcome, day=1, **more):
    """Return a line of the journal."""
    return {"outcome": outcome, "exit_code": 0, "run_id": "now", "reason": "so it is",
            "started": f"2026-11-{day:02d}T03:00:00+00:00", "seconds": 30.5,
            "peak_memory_mb": 2, **more}  # fmt: skip


@pytest.fixture
def data(tmp_path):
    """A data folder, with the means to fill it and to write its figures."""
    root = tmp_path / "data"
    root.mkdir()

    def write(path, content=""):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    def champion():
        release = "06_models/releases/000007-abc"
        facts = {"model_version": "abc", "fingerprint": "f", "previous": None, "files": {"x": "y"}}
        write(f"{release}/release.json", {**facts, "candidate": {"negative_elbo": 139.5}})
        write(f"{release}/metrics.json", {"splits": {"test": {"negative_elbo": 134.82}}})
        (root / "06_models/champion").symlink_to("releases/000007-abc")

    def batch(folder, name):
        return put(root / folder, name, images_of(2))

    def metrics(outcome="promoted", job="retraining", params=None, **more):
        """Write the figures of a run after those that the journal has; return the file."""
        last = Run.model_validate(run(outcome, **more))
        write_metrics(root, job, last, params or MonitoringParams())
        return root / f"08_reporting/prometheus/mnist_vae_{job}.prom"

    def figures(*lines, job="retraining"):
        """Return the figures of the last of these runs."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write(f"08_reporting/{job}/journal.jsonl", text)
        write_metrics(root, job, Run.model_validate(lines[-1]), MonitoringParams())
        return read(root / f"08_reporting/prometheus/mnist_vae_{job}.prom")

    return SimpleNamespace(
        root=root, write=write, champion=champion, batch=batch, metrics=metrics, figures=figures
    )


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
        assert (finished.returncode, finished.stdout + finished.stderr) == (0, "")

    return check


def nothing(_):
    pass


def served(data):
    data.champion()
    data.batch("01_raw/incoming", "monday")
    data.figures(run("promoted", 1))


@pytest.mark.parametrize("state", [nothing, served])
@pytest.mark.parametrize("job", JOBS)
def test_every_outcome_is_written_in_every_state(data, caplog, promtool, state, job):
    state(data)
    for outcome in OUTCOMES:
        caplog.clear()
        file = data.metrics(outcome, job)
        values = read(file)
        outcomes = {key[1]: value for key, value in values.items() if key[0].endswith("outcome")}
        assert {name for name, value in outcomes.items() if value} >= {outcome}
        assert values["mnist_vae_last_run_timestamp_seconds",] == ENDED
        assert values["mnist_vae_last_run_duration_seconds",] == 30.5
        assert values["mnist_vae_last_run_peak_memory_bytes",] == 2 * 2**20
        assert values["mnist_vae_disk_size_bytes",] > values["mnist_vae_disk_free_bytes",] > 0
        assert not caplog.records
        promtool(file)


def test_the_files_of_both_jobs_agree_and_can_be_told_apart(data):
    served(data)
    more = {**JUDGED, "release": "000007-abc", "model_version": "abc"}
    more |= {"images": 3, "anomalous_images": 1}
    families = [
        {family.name: family for family in text_string_to_metric_families(path.read_text())}
        for path in (data.metrics("kept", job, **more) for job in JOBS)
    ]
    assert set(families[0]) | set(families[1]) == {name.removesuffix("_total") for name in HELP}
    for name in set(families[0]) & set(families[1]):
        one, other = families[0][name], families[1][name]
        assert (one.documentation, one.type) == (other.documentation, other.type)
        # The textfile collector wants the same labels of one name in all files.
        assert len({frozenset(x.labels) for x in [*one.samples, *other.samples]}) == 1
    for job, all_of_it in zip(JOBS, families, strict=True):
        samples = [sample for family in all_of_it.values() for sample in family.samples]
        labels = {(sample.labels["project"], sample.labels["pipeline"]) for sample in samples}
        assert labels == {("mnist_vae", job)}


@pytest.mark.parametrize(
    ("lines", "row"),
    [
        ([("failed",)], 0),
        ([("kept", JUDGED)] * 3, 3),
        ([("kept", JUDGED), ("nothing_new",), ("locked",), ("kept", JUDGED)], 2),
        ([("kept", JUDGED), ("failed",), ("bad_data",), ("withdrawn",), ("kept", JUDGED)], 2),
        ([("kept", JUDGED), ("kept", JUDGED), ("stalled", JUDGED)], 3),
        ([("kept", JUDGED), ("stalled",)], 1),  # nothing was tried again
        ([("kept", JUDGED), ("promoted", JUDGED), ("failed",)], 0),
        ([("kept", JUDGED), ("rolled_back",), ("kept", JUDGED)], 1),
    ],
)
def test_candidates_kept_in_a_row_are_counted_since_the_last_promotion_or_rollback(
    data, lines, row
):
    runs = [run(outcome, day, **dict(*more)) for day, (outcome, *more) in enumerate(lines, 1)]
    assert data.figures(*runs)["mnist_vae_candidates_kept_in_a_row",] == row


@pytest.mark.parametrize("outcome", ["promoted", "nothing_new", "scored", "kept"])
def test_the_last_success_survives_runs_that_are_none(data, outcome):
    others = ("failed", "bad_data", "stalled", "rolled_back", "withdrawn")
    later = [run(other, 5) for other in others]
    values = data.figures(run(outcome, 1), *later)
    assert values["mnist_vae_last_success_timestamp_seconds",] == ENDED
    assert data.figures(*later)["mnist_vae_last_success_timestamp_seconds",] == 0


def test_candidate_and_batches_are_those_of_the_last_run_that_had_any(data):
    bad = run("bad_data", batches={"a": "bad", "b": "bad", "c": "accepted"}, **JUDGED)
    for later in (run("failed", 2), run("failed", 2, batches={}), run("withdrawn", 2)):
        values = data.figures(bad, later)
        assert values["mnist_vae_negative_elbo_nats", "judge", "candidate"] == 141.0
        assert values["mnist_vae_candidate_gain_nats",] == -1.5
        counts = [values["mnist_vae_last_run_batches", what] for what in ("bad", "accepted")]
        assert counts == [2, 1]
    values = data.figures(bad, run("promoted", 2, **{**JUDGED, "gain": None}))
    assert ("mnist_vae_candidate_gain_nats",) not in values
    assert values["mnist_vae_last_run_batches", "bad"] == 0


def test_a_run_counts_once_whether_the_journal_has_it_or_not(data):
    first, second = (run("scored", day, images=10) for day in (1, 2))
    assert data.figures(first, job="scoring")["mnist_vae_images_scored_total",] == 10
    assert data.figures(first, second, job="scoring")["mnist_vae_images_scored_total",] == 20
    data.figures(first, job="scoring")
    file = data.metrics("scored", "scoring", day=2, images=10)  # a full disk: not in the journal
    assert read(file)["mnist_vae_images_scored_total",] == 20


def test_lines_that_a_full_disk_or_a_power_failure_leaves_are_passed_over(data):
    line, half = json.dumps(run("kept", **JUDGED)).encode(), b'{"outcome": "promoted", "star'
    journal = data.write("08_reporting/retraining/journal.jsonl")
    journal.write_bytes(b"\n".join([line, half, line, b"\x00\xff\xfe", b"", half]))
    assert read(data.metrics("kept", day=9, **JUDGED))["mnist_vae_candidates_kept_in_a_row",] == 3


def test_batches_are_counted_where_they_are(data):
    data.batch("01_raw/taken", "old")
    for name in ("new", "other", ".hidden", "half.part"):
        data.batch("01_raw/incoming", name)
    for name in ("bad", "bad-2"):
        data.batch("01_raw/quarantine", name)
        data.write(f"01_raw/quarantine/{name}.json", {"batch": name})
    for name in ("old.0", "older.1", ".partial-of-a-killed-run"):
        data.write(f"02_intermediate/batches/{name}.parquet")
    data.write("02_intermediate/withdrawn_batches/oldest.2.parquet")
    values = read(data.metrics())
    states = ("waiting", "in_use", "withdrawn", "quarantined")
    assert [values["mnist_vae_batches", state] for state in states] == [2, 2, 1, 2]


def test_batches_to_embed_wait_until_the_model_in_use_has_embedded_them(data):
    for name in ("a", "b", "c*d"):
        data.batch("01_raw/to_embed", name)
    data.batch("01_raw/to_embed_quarantine", "bad")
    for name in ("000001-old/a", "000001-old/b", "000002-new/a"):
        data.write(f"07_model_output/batch_embeddings/{name}.parquet")
    (data.root / "07_model_output/batch_embeddings/current").symlink_to("000001-old")

    def waiting(**line):
        values = read(data.metrics("failed", "scoring", **line))
        assert values["mnist_vae_batches", "quarantined"] == 1
        return values["mnist_vae_batches", "waiting"]

    assert waiting(release="000002-new", model_version="new") == 2
    assert waiting(release=None, model_version="unknown") == 3
    assert waiting(release=None, model_version=None) == 1
    assert waiting() == 1


def test_the_scoring_counts_images_and_anomalies_and_names_its_model(data):
    runs = [run("scored", 1, images=5, anomalous_images=2), run("failed", 2, images=0)]
    line = {"release": "000002-new", "model_version": "new", "images": 3}
    values = data.figures(*runs, run("scored", 3, **line, anomalous_images=1), job="scoring")
    assert values["mnist_vae_images_scored_total",] == 8
    assert values["mnist_vae_last_run_images",] == 3
    assert values["mnist_vae_anomalous_images_total",] == 3
    assert values["mnist_vae_last_run_anomalous_images",] == 1
    assert values["mnist_vae_release_info", "new", "000002-new"] == 1
    assert ("mnist_vae_candidates_kept_in_a_row",) not in values
    without = run("scored", 3, **line, anomalous_images=None)  # its model has no threshold
    values = data.figures(*runs, without, job="scoring")
    assert values["mnist_vae_anomalous_images_total",] == 2
    assert ("mnist_vae_last_run_anomalous_images",) not in values


def test_drift_is_that_of_the_batches_that_were_looked_at_last(data):
    batches = {
        "a": {"outcome": "accepted", "drift": {"drifted": True, "effect": 0.3, **DRIFT}},
        "b": {"outcome": "accepted", "drift": {"drifted": False, "effect": 0.1, **DRIFT}},
        "c": {"outcome": "bad"},
    }
    for intake, expected in ((batches, (0.3, 1)), ({}, (0, 0))):
        data.write("02_intermediate/batch_intake.json", {"batches": intake})
        values = read(data.metrics())
        found = (values["mnist_vae_drift_effect",], values["mnist_vae_drifted_batches",])
        assert found == expected


def test_the_figures_of_the_champion_are_those_of_its_promotion(data):
    assert read(data.metrics())["mnist_vae_release_number",] == 0
    data.champion()
    values = read(data.metrics("kept", **JUDGED))
    assert values["mnist_vae_negative_elbo_nats", "judge", "champion"] == 139.5
    assert values["mnist_vae_negative_elbo_nats", "test", "champion"] == 134.82
    assert values["mnist_vae_release_number",] == 7
    assert values["mnist_vae_release_info", "abc", "000007-abc"] == 1


def test_what_is_damaged_takes_no_other_figure_with_it(data, caplog):
    data.champion()
    data.write("06_models/releases/000007-abc/metrics.json", "{")
    data.write("02_intermediate/batch_intake.json", '{"batches": {"a": 3}}')
    (data.root / "08_reporting/retraining/journal.jsonl").mkdir(parents=True)
    values = read(data.metrics())
    assert values["mnist_vae_last_run_outcome", "promoted"] == 1
    assert values["mnist_vae_batches", "waiting"] == 0
    assert values["mnist_vae_release_number",] == 7
    assert ("mnist_vae_last_success_timestamp_seconds",) not in values, "not known is not never"
    (warning,) = caplog.records
    for problem in ("Is a directory", "Intake", "Expecting property name"):
        assert problem in warning.message


def test_a_problem_is_without_the_remedy_which_the_reason_of_the_run_has(data, caplog):
    (data.root / "06_models/champion").mkdir(parents=True)
    data.metrics()
    (warning,) = caplog.records
    assert "champion is damaged" in warning.message
    assert "roll-back" not in warning.message


def test_a_run_that_was_locked_out_leaves_the_file_to_the_one_under_way(data, caplog):
    before = data.metrics("promoted").read_bytes()
    assert data.metrics("locked").read_bytes() == before
    assert not caplog.records


def test_another_user_may_read_it_whatever_the_umask(data):
    before = os.umask(0o077)
    try:
        file = data.metrics()
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o755


def test_two_projects_share_the_folder_of_node_exporter(data, tmp_path):
    folder = tmp_path / "textfile"
    folder.mkdir()
    for project in ("ours", "theirs"):
        data.metrics(params=MonitoringParams(textfile_folder=str(folder), project=project))
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["ours_retraining.prom", "theirs_retraining.prom"]
    assert 'project="theirs"' in files[1].read_text()
    assert not (data.root / "08_reporting/prometheus").exists()


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_that_cannot_be_written_to_is_one_warning(data, tmp_path, caplog, named):
    data.write("08_reporting/prometheus", "a file")
    missing = tmp_path / "textfle"
    data.metrics(params=MonitoringParams(textfile_folder=str(missing) if named else None))
    (warning,) = caplog.records
    folder = missing if named else data.root / "08_reporting/prometheus"
    problem = "[Errno 2] No such file" if named else "[Errno 17] File exists"
    assert f"were not written to {folder}/mnist_vae_retraining.prom ({problem}" in warning.message
    assert not missing.exists()
