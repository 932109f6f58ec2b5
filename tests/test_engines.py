"""Embeddings of images: the same on any engine, once each and in order, also when a worker dies."""

import importlib.util
import logging
import os
import signal
import socket
import subprocess
import sys
import time

import click
import numpy as np
import pyarrow as pa
import pytest

from mnist_vae import engines
from mnist_vae.data.images import ImageSet
from mnist_vae.data.origin import result_fingerprints
from mnist_vae.engines import EngineError, check_engine, embed, encode
from mnist_vae.params import EmbeddingParams
from mnist_vae.vae.encoding import Encoding
from tests.conftest import run
from tests.model_files import summary_of

distributed = pytest.importorskip("distributed", reason="the extra `dask` is needed")
psutil = pytest.importorskip("psutil", reason="the extra `dask` is needed")

pytestmark = pytest.mark.slow  # workers start, some in processes of their own
HOW = Encoding("binary_crossentropy", refine_steps=0, seed=1)


class Work:
    """What there is to encode."""

    def __init__(self):
        from mnist_vae.vae.networks import build_decoder, build_encoder

        size = {"latent_dim": 2, "hidden_units": (16,), "seed": 1}
        self.networks = build_encoder(**size), build_decoder(**size)
        self.splits = [images(2000, 0, "train"), images(301, 2000, "validation")]
        self.summary = summary_of(self.networks, *self.splits)

    def table(self, **params):
        given = EmbeddingParams(**{"batch_size": 32, **params})
        return embed(*self.networks, self.summary, given, 1, *self.splits)

    def check(self, table, **params):
        """Check that the embeddings are those of the run's own process."""
        expected = self.table(**params)
        assert table.schema.equals(expected.schema, check_metadata=True)
        for name in table.column_names:
            if pa.types.is_floating(table.schema.field(name).type):
                np.testing.assert_allclose(table[name], expected[name], rtol=1e-6, atol=1e-6)
            else:
                assert table[name].equals(expected[name]), name
        lengths = [len(batch) for batch in table.to_batches()]
        assert lengths == [len(batch) for batch in expected.to_batches()], "rows a group of a file"


def images(n, first_id, split):
    return ImageSet(
        pixels=np.random.default_rng(first_id).integers(0, 256, (n, 784), np.uint8),
        image_id=np.arange(first_id, first_id + n),
        split=np.full(n, split),
        label=np.where(np.arange(n) % 7 == 0, 255, np.arange(n) % 10).astype(np.uint8),
    )


@pytest.fixture(scope="module")
def work():
    return Work()


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


@pytest.mark.parametrize("refine_steps", [0, 2])
def test_on_a_cluster_that_exists_the_embeddings_are_the_same(work, cluster, refine_steps):
    address = cluster.scheduler_address
    work.check(
        work.table(engine="dask", address=address, refine_steps=refine_steps),
        refine_steps=refine_steps,
    )
    assert len(cluster.scheduler_info["workers"]) == 2, "it runs on"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (EngineError("A worker is another."), r"^A worker is another\.$"),
        (KeyError("encoder"), r"^The Dask cluster at .* did not finish .* KeyError: 'encoder'; lo"),
    ],
)
def test_a_fault_on_a_worker_ends_in_one_sentence(work, cluster, monkeypatch, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(engines, "encode", fail)
    with pytest.raises(EngineError, match=message):
        work.table(engine="dask", address=cluster.scheduler_address)


def when_the_first_result_is_asked_for(monkeypatch, act):
    """Have the run call `act` once, when it waits for its first result."""
    fetch, calls = distributed.Future.result, []

    def then(future, timeout=None):
        if not calls:
            calls.append(act())
        return fetch(future, timeout)

    monkeypatch.setattr(distributed.Future, "result", then)


def test_a_cluster_whose_workers_are_gone_for_long_is_given_up(work, cluster, monkeypatch):
    def leave():
        cluster.scale(0)
        while cluster.scheduler.workers:
            time.sleep(0.05)

    monkeypatch.setattr(engines, "_SECONDS_WITHOUT_WORKERS", 1)
    monkeypatch.setattr(engines, "_SECONDS_A_LOOK", 0.2)
    when_the_first_result_is_asked_for(monkeypatch, leave)
    with pytest.raises(EngineError, match=r"with 1 seconds without workers at most, .* Timeout"):
        work.table(engine="dask", address=cluster.scheduler_address)


def test_a_cluster_without_a_worker_is_refused(work, monkeypatch):
    monkeypatch.setattr(engines, "_SECONDS_TO_JOIN", 1)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        pytest.raises(EngineError, match="expected a scheduler with a worker within 1 seconds"),
    ):
        work.table(engine="dask", address=cluster.scheduler_address)


def processes_of_this_run():
    return set(psutil.Process().children(recursive=True))


def test_no_one_else_on_the_machine_is_let_into_the_cluster_of_a_run(work, caplog, monkeypatch):
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
    with engines.running(EmbeddingParams(engine="dask", workers=1), *work.networks, HOW):
        assert len(refused) == 2


def test_a_killed_worker_loses_and_repeats_nothing_and_leaves_nothing_behind(
    work, monkeypatch, tmp_path
):
    """The cluster is the run's own; the worker that takes up a late task dies of it, once."""
    before, flag, encode = processes_of_this_run(), tmp_path / "killed", engines.encode
    late = work.splits[0].pixels[1600]
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
    table = work.table(engine="dask", workers=2)
    assert int(flag.read_text()) != os.getpid()
    work.check(table)
    assert list(scratch.iterdir()) == []
    gone = psutil.wait_procs(processes_of_this_run() - before, timeout=5)[1]
    assert [left for left in gone if "resource_tracker" not in " ".join(left.cmdline())] == []


def test_a_task_that_kills_every_worker_ends_the_run(work, monkeypatch):
    def deadly(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(engines, "encode", deadly)
    with pytest.raises(EngineError, match=r"did not finish .* received KilledWorker: "):
        work.table(engine="dask", workers=1)


def test_a_scheduler_that_ends_ends_the_run(work, cluster, caplog, monkeypatch):
    caplog.set_level(logging.CRITICAL, logger="distributed")
    monkeypatch.setattr(engines, "_SECONDS_TO_JOIN", 10)  # so long a client waits for it
    address = cluster.scheduler_address
    when_the_first_result_is_asked_for(monkeypatch, cluster.close)
    with pytest.raises(EngineError, match=f"The Dask cluster at {address} did not finish"):
        work.table(engine="dask", address=address)


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


def test_importing_the_engines_imports_neither_dask_nor_tensorflow():
    names = {"dask", "distributed", "tensorflow", "keras"}
    script = f"import sys, mnist_vae.engines; sys.exit(str({names} & set(sys.modules) or ''))"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert finished.stderr.strip() == "", finished.stderr
