"""Dask gives every image's embedding once and in order, also when a worker dies."""

import logging
import os
import signal
import subprocess
import sys
import time

import pytest
from kedro.io import DatasetError

from mnist_vae.datasets.stream import StreamedParquetDataset
from mnist_vae.engines import EngineError
from mnist_vae.engines import dask as dask_module

distributed = pytest.importorskip("distributed", reason="the extra `dask` is needed")
psutil = pytest.importorskip("psutil", reason="the extra `dask` brings it")


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    monkeypatch.setattr(dask_module, "_ROWS_A_TASK", 200)


@pytest.fixture
def cluster():
    """A scheduler and two workers that are threads of this process."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        yield cluster


def test_on_a_cluster_that_exists_the_embeddings_are_the_same(work, check_alike, cluster):
    check_alike(work.stream(engine="dask", address=cluster.scheduler_address).read_all())
    assert len(cluster.scheduler_info["workers"]) == 2, "it runs on"


def test_refined_ones_too(work, check_alike, cluster):
    table = work.stream(engine="dask", address=cluster.scheduler_address, refine_steps=2)
    check_alike(table.read_all(), refine_steps=2)


def test_what_a_worker_says_is_said_by_the_run(work, cluster, monkeypatch):
    def refuse(*_):
        raise EngineError("A worker cannot read the model.")

    monkeypatch.setattr(dask_module, "encode", refuse)
    with pytest.raises(EngineError, match=r"^A worker cannot read the model\.$"):
        work.stream(engine="dask", address=cluster.scheduler_address).read_all()


def test_a_fault_on_a_worker_is_one_sentence(work, cluster, monkeypatch):
    def fail(*_):
        raise KeyError("encoder")

    monkeypatch.setattr(dask_module, "encode", fail)
    message = r"^The Dask cluster at .* did not finish the encoding: .* KeyError: 'encoder'; look"
    with pytest.raises(EngineError, match=message):
        work.stream(engine="dask", address=cluster.scheduler_address).read_all()


def test_a_cluster_whose_workers_are_gone_for_long_is_given_up(
    work, cluster, monkeypatch, tmp_path
):
    target = tmp_path / "embeddings.parquet"
    target.write_bytes(b"the old ones")
    monkeypatch.setattr(dask_module, "_SECONDS_WITHOUT_WORKERS", 1)
    monkeypatch.setattr(dask_module, "_SECONDS_A_LOOK", 0.2)
    stream = work.stream(engine="dask", address=cluster.scheduler_address)
    stream.read_next_batch()
    cluster.scale(0)
    with pytest.raises(DatasetError, match="has no workers any more"):
        StreamedParquetDataset(filepath=str(target)).save(stream)
    assert target.read_bytes() == b"the old ones"
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings.parquet"]


def test_a_cluster_without_a_worker_is_refused(work, monkeypatch):
    monkeypatch.setattr(dask_module, "_SECONDS_TO_JOIN", 1)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        pytest.raises(EngineError, match="expected a scheduler with a worker within 1 seconds"),
    ):
        work.stream(engine="dask", address=cluster.scheduler_address).read_all()


def processes_of_this_run():
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.mark.slow
def test_a_killed_worker_loses_and_repeats_nothing_and_leaves_nothing_behind(
    work, check_alike, monkeypatch, tmp_path
):
    """The cluster is the run's own; the worker that takes up a late task dies of it, once."""
    before, flag, encode_all = processes_of_this_run(), tmp_path / "killed", dask_module._encode_all

    def dies_once(batches, models, how):
        if batches[0].column("image_id")[0].as_py() >= 1500 and not flag.exists():
            flag.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return encode_all(batches, models, how)

    monkeypatch.setattr(dask_module, "_encode_all", dies_once)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    table = work.stream(engine="dask", workers=2, scratch=str(scratch)).read_all()
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
def test_a_task_that_kills_every_worker_ends_the_run_and_the_old_output_stays(
    work, monkeypatch, tmp_path
):
    target = tmp_path / "embeddings.parquet"
    target.write_bytes(b"the old ones")

    def deadly(batches, models, how):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(dask_module, "_encode_all", deadly)
    with pytest.raises(DatasetError, match=r"did not finish .* received KilledWorker: "):
        StreamedParquetDataset(filepath=str(target)).save(work.stream(engine="dask", workers=1))
    assert target.read_bytes() == b"the old ones"


@pytest.mark.slow
def test_a_scheduler_that_dies_ends_the_run_and_the_old_output_stays(work, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL, logger="distributed")
    target, file = tmp_path / "embeddings.parquet", tmp_path / "scheduler.json"
    target.write_bytes(b"the old ones")
    common = ["--scheduler-file", str(file), "--no-dashboard", "--interface", "lo"]
    scheduler = start("scheduler", *common, "--port", "0", cwd=tmp_path)
    worker = start("worker", *common, "--nthreads", "1", cwd=tmp_path)
    try:
        with distributed.Client(scheduler_file=str(file), timeout=60) as client:
            address = client.scheduler.address
        stream = work.stream(engine="dask", address=address)
        stream.read_next_batch()
        scheduler.kill()
        with pytest.raises(DatasetError, match=f"The Dask cluster at {address} did not finish"):
            StreamedParquetDataset(filepath=str(target)).save(stream)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    assert target.read_bytes() == b"the old ones"


def start(what, *arguments, cwd):
    command = [sys.executable, "-m", "distributed.cli.dask_" + what, *arguments]
    if what == "worker":
        command.append("--no-nanny")
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
