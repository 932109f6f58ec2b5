"""Embeddings of images: the same on any engine, once each and in order, also when a worker dies."""

import importlib.util
import logging
import os
import signal
import socket
import time

import click
import pandas as pd
import pytest

from mnist_vae import engines
from mnist_vae.data.origin import result_fingerprints
from mnist_vae.engines import EngineError, check_engine, encode
from mnist_vae.params import EmbeddingParams
from mnist_vae.vae.encoding import Encoding
from tests.conftest import run
from tests.model_files import summary_of

distributed = pytest.importorskip("distributed", reason="the extra `dask` is needed")
psutil = pytest.importorskip("psutil", reason="the extra `dask` is needed")

pytestmark = pytest.mark.slow  # workers start, some in processes of their own
HOW = Encoding("binary_crossentropy", refine_steps=0, seed=1)


@pytest.fixture(scope="module")
def networks():
    from tests.vae.models import small

    return small()


@pytest.fixture(scope="module")
def embedded(networks, make_images):
    """A function that embeds 2,301 images, by default in this process."""
    splits = [make_images(2000), make_images(301, "validation", 2000)]
    summary = summary_of(networks, *splits)

    def embed(**params):
        given = EmbeddingParams(batch_size=32, **params)
        return engines.embed(*networks, summary, given, 1, *splits)

    return embed


def assert_same(table, expected):
    assert table.schema.equals(expected.schema, check_metadata=True)
    pd.testing.assert_frame_equal(table.to_pandas(), expected.to_pandas(), rtol=1e-6, atol=1e-6)
    lengths = [len(batch) for batch in table.to_batches()]
    assert lengths == [len(batch) for batch in expected.to_batches()], "rows a group of a file"


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


def test_on_a_cluster_that_exists_the_embeddings_are_the_same(embedded, cluster):
    table = embedded(engine="dask", address=cluster.scheduler_address, refine_steps=2)
    assert_same(table, embedded(refine_steps=2))
    assert len(cluster.scheduler_info["workers"]) == 2, "it runs on"


def workers_leave(cluster):
    cluster.scale(0)
    while cluster.scheduler.workers:
        time.sleep(0.05)


def scheduler_ends(cluster):
    cluster.close()


@pytest.mark.parametrize(
    ("happens", "message"),
    [
        (workers_leave, "did not finish .* with 1 seconds without workers at most, .* Timeout"),
        (scheduler_ends, "did not finish .* received FutureCancelledError"),
    ],
)
def test_a_lost_cluster_ends_the_run(embedded, cluster, caplog, monkeypatch, happens, message):
    caplog.set_level(logging.CRITICAL, logger="distributed")
    monkeypatch.setattr(engines, "_SECONDS_TO_JOIN", 10)  # so long a client waits for a scheduler
    monkeypatch.setattr(engines, "_SECONDS_WITHOUT_WORKERS", 1)
    monkeypatch.setattr(engines, "_SECONDS_A_LOOK", 0.2)
    address = cluster.scheduler_address
    fetch, calls = distributed.Future.result, []

    def first_then(future, timeout=None):
        if not calls:
            calls.append(happens(cluster))
        return fetch(future, timeout)

    monkeypatch.setattr(distributed.Future, "result", first_then)
    with pytest.raises(EngineError, match=f"The Dask cluster at {address} {message}"):
        embedded(engine="dask", address=address)


def test_a_cluster_without_a_worker_is_refused(embedded, cluster, monkeypatch):
    workers_leave(cluster)
    monkeypatch.setattr(engines, "_SECONDS_TO_JOIN", 1)
    with pytest.raises(EngineError, match="expected a scheduler with a worker within 1 seconds"):
        embedded(engine="dask", address=cluster.scheduler_address)


def test_no_one_else_on_the_machine_is_let_into_the_cluster_of_a_run(networks, caplog, monkeypatch):
    """Who sends it a task runs code as the user of the run."""
    caplog.set_level(logging.CRITICAL, logger="distributed")
    refused = []
    client_of_run = distributed.Client

    def strange_client(where, **given):
        assert where.startswith("tls://127.0.0.1:")
        for address, security in (
            (where.replace("tls://", "tcp://"), None),
            (where, distributed.Security.temporary()),
        ):
            with pytest.raises((OSError, TimeoutError)):
                client_of_run(address, timeout=3, security=security)
            refused.append(address)
        return client_of_run(where, **given)

    monkeypatch.setattr(distributed, "Client", strange_client)
    with engines.running(EmbeddingParams(engine="dask", workers=1), *networks, HOW):
        assert len(refused) == 2


def test_a_killed_worker_loses_and_repeats_nothing_and_leaves_nothing_behind(
    embedded, make_images, monkeypatch, tmp_path
):
    """The cluster is the run's own; the worker that takes up a late task dies of it, once."""
    this, flag, encode = psutil.Process(), tmp_path / "killed", engines.encode
    before = this.children(recursive=True)
    late = make_images(2000).pixels[1600]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))

    def dies_once(batches, *given, **more):
        has_it = any((pixels == late).all(axis=1).any() for pixels, _ in batches)
        if has_it and not flag.exists():
            flag.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(batches, *given, **more)

    monkeypatch.setattr(engines, "encode", dies_once)
    table = embedded(engine="dask", workers=2)
    assert int(flag.read_text()) != os.getpid()
    assert_same(table, embedded())
    assert list(scratch.iterdir()) == []
    started = set(this.children(recursive=True)).difference(before)
    _, alive = psutil.wait_procs(started, timeout=5)
    assert [left for left in alive if "resource_tracker" not in " ".join(left.cmdline())] == []


@pytest.mark.parametrize("name", ["code", "libraries"])
def test_a_worker_with_other_code_or_libraries_encodes_nothing(name):
    expected = result_fingerprints() | {name: "another"}
    message = rf"^A worker on .*: expected its .*{name} another.*, received code .+; install"
    with pytest.raises(EngineError, match=message):
        encode([], (b"", b""), HOW, 1, expected)


def test_without_its_extra_the_engine_is_refused_before_the_first_node(monkeypatch, project):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = r"The engine dask is not installed: expected the package distributed, .*\[dask"
    with pytest.raises(click.ClickException, match=message):
        run(project, **{"embedding": {"engine": "dask"}})
    assert not list((project / "data/test").rglob("*.parquet"))
    check_engine(EmbeddingParams())


def test_an_address_where_no_one_listens_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        check_engine(EmbeddingParams(engine="dask", address=address))
    for wrong in (address, "tcp://127.0.0.1:nine"):
        with pytest.raises(EngineError, match=f"^There is no engine at {wrong}: "):
            check_engine(EmbeddingParams(engine="dask", address=wrong))
