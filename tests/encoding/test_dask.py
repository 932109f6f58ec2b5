"""Dask gives every image's embedding once and in order, also when a worker dies."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import mnist_vae
from mnist_vae.encoding import engines
from mnist_vae.encoding.batches import Encoding, EngineError, identity_of, save_models
from mnist_vae.params import EmbeddingParams

distributed = pytest.importorskip("distributed", reason="the extra `dask` is needed")
psutil = pytest.importorskip("psutil", reason="the extra `dask` is needed")

pytestmark = pytest.mark.slow  # workers start, some in processes of their own
PACKAGE = Path(mnist_vae.__file__).parent


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    monkeypatch.setattr(engines, "_ROWS_A_TASK", 200)


@pytest.fixture
def cluster():
    """A scheduler and two workers that are threads of this process."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        yield cluster


def test_on_a_cluster_that_exists_the_embeddings_are_the_same(work, check_alike, cluster):
    check_alike(work.table(engine="dask", address=cluster.scheduler_address))
    assert len(cluster.scheduler_info["workers"]) == 2, "it runs on"


def test_refined_ones_too(work, check_alike, cluster):
    table = work.table(engine="dask", address=cluster.scheduler_address, refine_steps=2)
    check_alike(table, refine_steps=2)


def test_what_a_worker_says_is_said_by_the_run(work, cluster, monkeypatch):
    def refuse(*_, **__):
        raise EngineError("A worker cannot read the model.")

    monkeypatch.setattr(engines, "encode", refuse)
    with pytest.raises(EngineError, match=r"^A worker cannot read the model\.$"):
        work.table(engine="dask", address=cluster.scheduler_address)


def test_a_fault_on_a_worker_is_one_sentence(work, cluster, monkeypatch):
    def fail(*_, **__):
        raise KeyError("encoder")

    monkeypatch.setattr(engines, "encode", fail)
    message = r"^The Dask cluster at .* did not finish the encoding: .* KeyError: 'encoder'; look"
    with pytest.raises(EngineError, match=message):
        work.table(engine="dask", address=cluster.scheduler_address)


def after_the_first_result(monkeypatch, act):
    """Have the run call `act` once, when it has the first result and waits for others."""
    result, calls = engines._result, []

    def then(*given):
        found = result(*given)
        if not calls:
            calls.append(act())
        return found

    monkeypatch.setattr(engines, "_result", then)


def test_a_cluster_whose_workers_are_gone_for_long_is_given_up(work, cluster, monkeypatch):
    monkeypatch.setattr(engines, "_SECONDS_WITHOUT_WORKERS", 1)
    monkeypatch.setattr(engines, "_SECONDS_A_LOOK", 0.2)
    after_the_first_result(monkeypatch, lambda: cluster.scale(0))
    with pytest.raises(EngineError, match="has no workers any more"):
        work.table(engine="dask", address=cluster.scheduler_address)


def test_a_result_that_is_lost_before_it_is_fetched_is_not_waited_for_for_ever(
    work, cluster, monkeypatch
):
    """The task was done; then its worker left, with the result."""
    monkeypatch.setattr(engines, "_SECONDS_WITHOUT_WORKERS", 1)
    monkeypatch.setattr(engines, "_SECONDS_A_LOOK", 0.2)
    fetch = distributed.Future.result

    def after_the_workers_left(future, timeout=None):
        cluster.scale(0)
        while cluster.scheduler.workers:
            time.sleep(0.05)
        return fetch(future, timeout)

    monkeypatch.setattr(distributed.Future, "result", after_the_workers_left)
    with pytest.raises(EngineError, match="has no workers any more"):
        work.table(engine="dask", address=cluster.scheduler_address)


def test_a_cluster_without_a_worker_is_refused(work, monkeypatch):
    monkeypatch.setattr(engines, "_SECONDS_TO_JOIN", 1)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        pytest.raises(EngineError, match="expected a scheduler with a worker within 1 seconds"),
    ):
        work.table(engine="dask", address=cluster.scheduler_address)


def processes_of_this_run():
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.mark.slow  # a worker is a process that is spawned
@pytest.mark.parametrize("certificate", ["none", "one of its own"])
def test_nobody_else_on_the_machine_is_let_into_the_cluster_of_a_run(
    work, tmp_path, caplog, monkeypatch, certificate
):
    """Whoever sends it a task runs code as the user of the run."""
    caplog.set_level(logging.CRITICAL, logger="distributed")
    clients = []
    client_of_run = distributed.Client

    def strange_client(where, **given):
        with client_of_run(where, **given) as client:
            assert client.submit(sum, [1, 2]).result() == 3
        assert where.split("//")[1].startswith("127.0.0.1:")
        security = None
        if certificate != "none":
            security = distributed.Security.temporary()
        address = where if security else where.replace("tls://", "tcp://")
        with pytest.raises((OSError, TimeoutError)):
            client_of_run(address, timeout=3, security=security)
        clients.append(where)
        return client_of_run(where, **given)

    monkeypatch.setattr(distributed, "Client", strange_client)
    params = EmbeddingParams(engine="dask", workers=1, scratch=str(tmp_path))
    how = Encoding("binary_crossentropy", refine_steps=0, seed=1)
    with engines.running(params, *work.networks, how):
        assert len(clients) == 1


@pytest.mark.slow
def test_a_killed_worker_loses_and_repeats_nothing_and_leaves_nothing_behind(
    work, check_alike, monkeypatch, tmp_path
):
    """The cluster is the run's own; the worker that takes up a late task dies of it, once."""
    before, flag, encode = processes_of_this_run(), tmp_path / "killed", engines.encode
    late = work.splits[0].pixels[1600]

    def dies_once(batches, **given):
        has_it = any((pixels == late).all(axis=1).any() for pixels, _ in batches)
        if has_it and not flag.exists():
            flag.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(batches, **given)

    monkeypatch.setattr(engines, "encode", dies_once)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    table = work.table(engine="dask", workers=2, scratch=str(scratch))
    assert int(flag.read_text()) != os.getpid()
    check_alike(table)
    assert list(scratch.iterdir()) == []
    time.sleep(1)
    left = [pid for pid in processes_of_this_run() - before if "resource_tracker" not in told(pid)]
    assert not left, [told(pid) for pid in left]


def told(pid):
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return "resource_tracker"


@pytest.mark.slow
def test_a_task_that_kills_every_worker_ends_the_run(work, monkeypatch):
    def deadly(batches, **given):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(engines, "encode", deadly)
    with pytest.raises(EngineError, match=r"did not finish .* received KilledWorker: "):
        work.table(engine="dask", workers=1)


@pytest.mark.slow
def test_a_scheduler_that_dies_ends_the_run(work, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.CRITICAL, logger="distributed")
    with cluster_of_processes(tmp_path) as (address, scheduler):
        after_the_first_result(monkeypatch, scheduler.kill)
        with pytest.raises(EngineError, match=f"The Dask cluster at {address} did not finish"):
            work.table(engine="dask", address=address)


@pytest.mark.slow
def test_a_worker_with_another_version_of_the_package_ends_the_run(work, tmp_path):
    package = shutil.copytree(PACKAGE, tmp_path / "other/mnist_vae")
    names = package / "data/fingerprints.py"
    changed = names.read_text().replace("RECIPE_VERSION = ", "RECIPE_VERSION = 1000 + ")
    assert changed != names.read_text()
    names.write_text(changed)
    message = (
        r"^A worker on .*: expected its code recipe \d+, .*, received code recipe 100\d, .*; inst"
    )
    with (
        cluster_of_processes(tmp_path, PYTHONPATH=str(tmp_path / "other")) as (address, _),
        pytest.raises(EngineError, match=message),
    ):
        work.table(engine="dask", address=address)


def test_a_worker_with_another_model_ends_the_run(work, cluster, monkeypatch):
    """As where `embedding.scratch` is not one folder, but one on each machine."""

    def then_another(models):
        identity = identity_of(models)
        save_models(models, *reversed(work.networks))
        return identity

    monkeypatch.setattr(engines, "identity_of", then_another)
    with pytest.raises(EngineError, match=r"^A worker on .*: expected its model \w+, received"):
        work.table(engine="dask", address=cluster.scheduler_address)


@contextmanager
def cluster_of_processes(folder, **environment):
    """A scheduler and a worker as a user starts them, the worker in that environment."""
    file = folder / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard", "--interface", "lo"]
    scheduler = start("scheduler", *common, "--port", "0", cwd=folder)
    worker = start("worker", *common, "--nthreads", "1", cwd=folder, **environment)
    try:
        with distributed.Client(scheduler_file=str(file), timeout=60) as client:
            address = client.scheduler.address
        yield address, scheduler
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


def start(what, *arguments, cwd, **environment):
    command = [sys.executable, "-m", "distributed.cli.dask_" + what, *arguments]
    if what == "worker":
        command.append("--no-nanny")
    return subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
