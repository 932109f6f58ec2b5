"""The figures of the job, as node_exporter finds them after a run."""

import json
import time

import pytest
from filelock import FileLock

from tests.prometheus import read
from tests.retrainings import deliver, models, retrain

pytestmark = pytest.mark.slow


@pytest.fixture
def project(served_copy):
    return served_copy


def file_of(project):
    return project / "data/test/08_reporting/prometheus/mnist_vae_retraining.prom"


def figures_of(project):
    return read(file_of(project))


def test_the_first_model_in_service_is_told_of(served):
    values = figures_of(served)
    journal = served / "data/test/08_reporting/retraining/journal.jsonl"
    line = json.loads(journal.read_text().splitlines()[0])
    release = json.loads((models(served) / "champion/release.json").read_text())
    assert values["mnist_vae_last_run_outcome", "promoted"] == 1
    assert values["mnist_vae_last_run_duration_seconds",] == line["seconds"]
    assert values["mnist_vae_release_number",] == 1
    assert values["mnist_vae_release_info", line["champion"], release["release"]] == 1
    figure = line["candidate"]["negative_elbo"]
    assert values["mnist_vae_negative_elbo_nats", "judge", "candidate"] == figure
    assert values["mnist_vae_negative_elbo_nats", "judge", "champion"] == figure
    metrics = json.loads((models(served) / "champion/metrics.json").read_text())
    test = metrics["splits"]["test"]["negative_elbo"]
    assert values["mnist_vae_negative_elbo_nats", "test", "champion"] == test
    success = values["mnist_vae_last_success_timestamp_seconds",]
    assert 0 <= time.time() - success < 3600
    assert values["mnist_vae_last_run_timestamp_seconds",] == success


def test_what_the_next_runs_find_and_do_is_told_of(project, fresh):
    first = figures_of(project)["mnist_vae_last_success_timestamp_seconds",]
    deliver(project, "monday", fresh[:60])
    (project / "data/test/01_raw/incoming/tuesday").mkdir()
    (project / "data/test/01_raw/incoming/tuesday/images.png").write_bytes(b"no picture")
    line = retrain(project, **{"retraining.min_gain": 1000})
    assert line["outcome"] == "kept", line
    values = figures_of(project)
    assert values["mnist_vae_candidates_kept_in_a_row",] == 1
    assert values["mnist_vae_candidate_gain_nats",] == line["gain"]
    states = ("waiting", "in_use", "withdrawn", "quarantined")
    assert [values["mnist_vae_batches", state] for state in states] == [0, 1, 0, 1]
    assert values["mnist_vae_last_run_batches", "accepted"] == 1
    assert values["mnist_vae_last_run_batches", "bad"] == 1
    assert 0 < values["mnist_vae_drift_effect",] <= 1
    success = values["mnist_vae_last_success_timestamp_seconds",]
    assert success > first

    deliver(project, "wednesday", fresh[60:120])
    line = retrain(project, "withdraw", "nobody")
    assert line["outcome"] == "failed"
    values = figures_of(project)
    assert values["mnist_vae_last_run_outcome", "failed"] == 1
    assert values["mnist_vae_batches", "waiting"] == 1
    assert values["mnist_vae_last_success_timestamp_seconds",] == success
    assert values["mnist_vae_candidates_kept_in_a_row",] == 1

    before = file_of(project).read_bytes()
    with FileLock(models(project) / "retraining.lock"):
        assert retrain(project)["outcome"] == "locked"
    assert file_of(project).read_bytes() == before


def test_a_folder_that_is_not_there_is_a_warning_and_no_other_harm(project, tmp_path):
    params = {"monitoring.textfile_folder": str(tmp_path / "missing")}
    line = retrain(project, **params)
    assert (line["outcome"], line["exit_code"]) == ("nothing_new", 0)
    assert "figures for Prometheus were not written" in line["log"]
