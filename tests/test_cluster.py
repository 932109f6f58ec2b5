"""Who the workers of a training are, as the environment says it."""

import json

import pytest

from mnist_vae.cluster import Cluster, ClusterError, read_cluster, workers_in_tf_config

SLURM = {
    "SLURM_STEP_NODELIST": "gpu[2,10]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_PROCID": "2",
}


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch):
    for name in ("TF_CONFIG", *SLURM):
        monkeypatch.delenv(name, raising=False)


def set_tf_config(monkeypatch, cluster, kind="worker", index=0):
    config = {"cluster": cluster, "task": {"type": kind, "index": index}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))


def test_a_process_is_alone_unless_it_is_told_otherwise(monkeypatch):
    set_tf_config(monkeypatch, {"worker": ["a:1", "b:1"]})
    assert read_cluster("none") is None
    assert workers_in_tf_config() == 2


def test_the_first_worker_is_the_chief(monkeypatch):
    set_tf_config(monkeypatch, {"worker": ["a:1", "b:1"]}, index=0)
    assert read_cluster("tf_config") == Cluster(("a:1", "b:1"), 0)
    assert read_cluster("tf_config").is_chief
    set_tf_config(monkeypatch, {"worker": ["a:1", "b:1"]}, index=1)
    assert not read_cluster("tf_config").is_chief


def test_a_chief_of_its_own_comes_before_the_workers(monkeypatch):
    cluster = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    set_tf_config(monkeypatch, cluster, "chief")
    assert read_cluster("tf_config") == Cluster(("a:1", "b:1", "c:1"), 0)
    set_tf_config(monkeypatch, cluster, "worker", 0)
    assert read_cluster("tf_config").number == 1


def test_one_worker_is_a_process_alone(monkeypatch):
    set_tf_config(monkeypatch, {"worker": ["a:1"]})
    assert read_cluster("tf_config") is None


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", '{"cluster": {}}', '{"cluster": 1, "task": 2}']
)
def test_what_is_no_tf_config_is_refused_with_an_example(monkeypatch, text):
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ClusterError, match=r"does not name the workers .* such as"):
        read_cluster("tf_config")
    assert workers_in_tf_config() == 0


@pytest.mark.parametrize(
    ("cluster", "kind"),
    [({"worker": ["a:1"], "ps": ["b:1"]}, "worker"), ({"worker": ["a:1", "b:1"]}, "evaluator")],
)
def test_other_jobs_than_workers_are_refused(monkeypatch, cluster, kind):
    set_tf_config(monkeypatch, cluster, kind)
    with pytest.raises(ClusterError, match="expected the jobs chief and worker alone"):
        read_cluster("tf_config")


@pytest.mark.parametrize("index", [-1, 2])
def test_a_number_that_no_worker_has_is_refused(monkeypatch, index):
    set_tf_config(monkeypatch, {"worker": ["a:1", "b:1"]}, index=index)
    with pytest.raises(ClusterError, match="expected a number from 0 to 1, received"):
        read_cluster("tf_config")


def test_the_tasks_of_slurm_are_numbered_as_its_nodes_are_listed(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    addresses = ("gpu2:8888", "gpu2:8889", "gpu10:8888", "gpu10:8889")
    assert read_cluster("slurm") == Cluster(addresses, 2)


def test_without_srun_there_are_no_workers_of_slurm(monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "0")
    with pytest.raises(ClusterError, match="received no SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER"):
        read_cluster("slurm")


def test_what_slurm_never_says_is_refused(monkeypatch):
    for name, value in {**SLURM, "SLURM_STEP_TASKS_PER_NODE": "many"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ClusterError, match="set TF_CONFIG instead"):
        read_cluster("slurm")
