"""What several workers are refused for before any work, and what a worker does without training."""

import json
import logging

import click
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.runner import ParallelRunner

from mnist_vae.cluster import follows, joined_workers
from tests.conftest import run
from tests.retrainings import retrain


@pytest.fixture
def worker(monkeypatch):
    """Make this process one of two workers, of which there is no other."""

    def worker(number):
        cluster = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
        task = {"type": "worker", "index": number}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))

    return worker


WORKERS = {"workers": {"cluster": "tf_config"}}


def refused(project, pipeline="training", **params):
    with pytest.raises(click.ClickException) as error:
        run(project, pipeline, **WORKERS, **params)
    assert not list((project / "data/test").rglob("*.parquet"))
    return error.value.message


def test_workers_that_the_environment_does_not_name(project, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert refused(project).startswith("TF_CONFIG does not name the workers of the training")


def test_a_batch_that_cannot_be_shared_equally(project, worker):
    worker(0)
    message = refused(project, training={"batch_size": 127})
    assert message.endswith("multiple of the 2 workers, received 127; choose another one.")


def test_a_backend_that_cannot(project, worker, monkeypatch):
    worker(0)
    monkeypatch.setattr("mnist_vae.hooks.compute.backend_name", lambda: "jax")
    assert "expected KERAS_BACKEND to be tensorflow beside `workers.cluster`" in refused(project)


def test_a_job_which_is_the_work_of_one_process(project, worker):
    worker(1)
    line = retrain(project, **{"workers.cluster": "tf_config"})
    assert line["outcome"] == "failed"
    assert line["reason"].startswith("A job is the work of one process: expected `workers.cluster`")
    assert line["reason"].endswith("run it with `--params workers.cluster=none`, in one process.")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("runner", ParallelRunner(), "expected the SequentialRunner beside `workers.cluster`"),
        ("only_missing_outputs", True, "received --only-missing-outputs"),
    ],
)
def test_a_run_that_might_not_come_to_the_training(project, worker, option, value, message):
    worker(0)
    bootstrap_project(project)
    with (
        KedroSession.create(project, env="test", runtime_params=WORKERS) as session,
        pytest.raises(click.ClickException, match=message),
    ):
        session.run(pipeline_names=["training"], **{option: value})


def test_a_worker_that_trains_nothing_is_done_and_writes_nothing(copied, worker, caplog):
    worker(1)
    before = {path: path.stat().st_mtime_ns for path in (copied / "data").rglob("*")}
    with (
        caplog.at_level(logging.INFO, logger="mnist_vae"),
        pytest.raises(SystemExit) as end,
    ):
        run(copied, "embedding", **WORKERS)
    assert end.value.code == 0
    assert "the chief does it alone: worker 1 is done" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in (copied / "data").rglob("*")} == before


def test_the_chief_does_alone_what_trains_nothing(copied, worker):
    worker(0)
    run(copied, "embedding", **WORKERS)
    assert joined_workers() is None
    assert not follows()


def test_a_forgotten_parameter_is_warned_of(project, worker, caplog):
    worker(1)
    with caplog.at_level(logging.WARNING, logger="mnist_vae"):
        run(project, "data")
    assert "TF_CONFIG names 2 workers, and `workers.cluster` is none" in caplog.text
