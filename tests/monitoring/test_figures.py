"""What the data folder tells: batches, drift, the model in service, the disk."""

import shutil

import pytest

from mnist_vae.jobs.batches import IncomingBatchesDataset
from mnist_vae.monitoring.figures import HELP, figures
from tests.monitoring.conftest import ENDED, record

DRIFT = {"p_value": 0.0, "distances": {}, "negative_elbo": 200.0}


def found(data, job="retraining", problems=(), **line):
    """Return the figures by name and labels; what cannot be found out must be `problems`."""
    result, received = figures(data.root, job, record(**{"outcome": "promoted", **line}))
    assert len(received) == len(problems), received
    for problem, expected in zip(received, problems, strict=True):
        assert expected in problem
    assert {figure.name for figure in result} <= set(HELP)
    return {(figure.name, *figure.labels.values()): figure.value for figure in result}


def test_there_are_figures_before_there_are_data(data):
    values = found(data, outcome="failed")
    assert values["mnist_vae_last_run_outcome", "failed"] == 1
    assert values["mnist_vae_last_run_outcome", "promoted"] == 0
    assert values["mnist_vae_last_run_timestamp_seconds",] == ENDED
    assert values["mnist_vae_last_success_timestamp_seconds",] == 0
    assert values["mnist_vae_last_run_duration_seconds",] == 30.5
    assert values["mnist_vae_last_run_peak_memory_bytes",] == 2 * 2**20
    assert values["mnist_vae_release_number",] == 0
    assert values["mnist_vae_batches", "waiting"] == 0
    assert values["mnist_vae_last_run_batches", "bad"] == 0
    assert not any(key[0] == "mnist_vae_negative_elbo_nats" for key in values)
    usage = shutil.disk_usage(data.root.parent)
    assert values["mnist_vae_disk_size_bytes",] == usage.total


def test_batches_are_counted_where_they_are(data):
    incoming = data.root / "01_raw/incoming"
    data.batch("01_raw/incoming", "old")
    dataset = IncomingBatchesDataset(path=str(incoming), settle_seconds=0.0)
    for read in dataset.load().values():
        read()
    dataset.confirm()
    for name in ("new", "other", ".hidden", "half.part"):
        data.batch("01_raw/incoming", name)
    for name in ("bad", "bad-2"):
        data.batch("01_raw/quarantine", name)
        data.write(f"01_raw/quarantine/{name}.json", {"batch": name})
    (data.root / "01_raw/quarantine/dangling").symlink_to("nowhere")
    for name in ("old.0", "older.1", ".partial-of-a-killed-run"):
        data.write(f"02_intermediate/batches/{name}.parquet", "")
    data.write("02_intermediate/withdrawn_batches/oldest.2.parquet", "")
    values = found(data)
    states = ("waiting", "in_use", "withdrawn", "quarantined")
    assert [values["mnist_vae_batches", state] for state in states] == [2, 2, 1, 3]


def test_a_batch_that_was_used_and_changed_since_is_waiting(data):
    folder = data.batch("01_raw/incoming", "monday")
    data.write("01_raw/incoming/.consumed.json", {"monday": "of other files"})
    assert found(data)["mnist_vae_batches", "waiting"] == 1
    shutil.rmtree(folder)
    assert found(data)["mnist_vae_batches", "waiting"] == 0


def test_batches_to_embed_wait_until_the_model_in_use_has_embedded_them(data):
    for name in ("a", "b", "c/d".replace("/", "*")):
        data.batch("01_raw/to_embed", name)
    data.batch("01_raw/to_embed_quarantine", "bad")
    embedded = "07_model_output/batch_embeddings"
    data.write(f"{embedded}/000001-old/a.parquet", "")
    data.write(f"{embedded}/000001-old/b.parquet", "")
    data.write(f"{embedded}/000002-new/a.parquet", "")
    (data.root / embedded / "current").symlink_to("000001-old")

    def waiting(**line):
        values = found(data, "scoring", outcome="failed", **line)
        assert values["mnist_vae_batches", "quarantined"] == 1
        return values["mnist_vae_batches", "waiting"]

    assert waiting(release="000002-new", model_version="new") == 2
    assert waiting(release=None, model_version="unknown") == 3
    assert waiting(release=None, model_version=None) == 1
    assert waiting() == 1


def test_the_scoring_tells_what_it_has_scored_and_with_what(data):
    data.journal("scoring", record("scored", images=5), record("failed", images=0))
    line = {"release": "000002-new", "model_version": "new", "images": 3}
    values = found(data, "scoring", outcome="scored", batches={"a": "embedded"}, **line)
    assert values["mnist_vae_images_scored_total",] == 8
    assert values["mnist_vae_last_run_images",] == 3
    assert values["mnist_vae_release_info", "000002-new", "new"] == 1
    assert values["mnist_vae_last_run_batches", "embedded"] == 1
    assert ("mnist_vae_candidates_kept_in_a_row",) not in values


def test_the_scoring_tells_of_anomalies_where_the_model_has_a_calibration(data):
    earlier = record("scored", images=5, anomalous_images=2)
    data.journal("scoring", earlier, record("scored", images=5))
    values = found(data, "scoring", outcome="scored", images=3, anomalous_images=1)
    assert values["mnist_vae_anomalous_images_total",] == 3
    assert values["mnist_vae_last_run_anomalous_images",] == 1
    values = found(data, "scoring", outcome="scored", images=3, anomalous_images=None)
    assert values["mnist_vae_anomalous_images_total",] == 2
    assert ("mnist_vae_last_run_anomalous_images",) not in values


def test_drift_is_that_of_the_batches_that_were_looked_at_last(data):
    batches = {
        "a": {"outcome": "accepted", "drift": {"drifted": True, "effect": 0.3, **DRIFT}},
        "b": {"outcome": "accepted", "drift": {"drifted": False, "effect": 0.1, **DRIFT}},
        "c": {"outcome": "bad"},
    }
    data.write("02_intermediate/batch_intake.json", {"batches": batches})
    values = found(data)
    assert values["mnist_vae_drift_effect",] == 0.3
    assert values["mnist_vae_drifted_batches",] == 1
    data.write("02_intermediate/batch_intake.json", {"batches": {}})
    values = found(data)
    assert (values["mnist_vae_drift_effect",], values["mnist_vae_drifted_batches",]) == (0, 0)


def test_the_figures_of_the_champion_are_those_of_its_promotion(data):
    data.champion()
    line = {"candidate": {"negative_elbo": 141.0}, "gain": -1.5, "outcome": "kept"}
    values = found(data, **line)
    assert values["mnist_vae_negative_elbo_nats", "champion", "judge"] == 139.5
    assert values["mnist_vae_negative_elbo_nats", "champion", "test"] == 134.82
    assert values["mnist_vae_negative_elbo_nats", "candidate", "judge"] == 141.0
    assert values["mnist_vae_candidate_gain_nats",] == -1.5
    assert values["mnist_vae_release_number",] == 7
    assert values["mnist_vae_release_info", "000007-abc", "abc"] == 1
    assert values["mnist_vae_candidates_kept_in_a_row",] == 1


def test_what_is_damaged_takes_no_other_figure_with_it(data):
    data.champion()
    (data.root / "06_models/releases/000007-abc/metrics.json").write_text("{")
    data.write("02_intermediate/batch_intake.json", '{"batches": {"a": 3}}')
    (data.root / "08_reporting/retraining/journal.jsonl").mkdir(parents=True)
    data.write("02_intermediate/batches", "no folder")
    problems = ["directory", "Not a directory", "Intake", "Expecting property name"]
    values = found(data, problems=problems)
    assert values["mnist_vae_last_run_outcome", "promoted"] == 1
    assert values["mnist_vae_batches", "waiting"] == 0
    assert values["mnist_vae_release_number",] == 7
    assert ("mnist_vae_last_success_timestamp_seconds",) not in values, "not known is not never"
    shutil.rmtree(data.root / "06_models/releases")
    assert ("mnist_vae_release_number",) not in found(
        data, problems=[*problems[:3], "release.json"]
    )


@pytest.mark.parametrize("line", [{}, {"started": None}, {"seconds": "long"}])
def test_a_line_that_is_none_leaves_the_figures_of_the_folder(data, line):
    received, problems = figures(data.root, "retraining", {"outcome": "kept", **line})
    assert {figure.name for figure in received} > {"mnist_vae_disk_free_bytes"}
    assert len(problems) == 2
