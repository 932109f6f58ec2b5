"""An engine that cannot be had is refused in one sentence, before any work."""

import importlib.util
import socket

import click
import pytest

from mnist_vae.encoding.batches import EngineError
from mnist_vae.encoding.engines import check_engine
from mnist_vae.params import EmbeddingParams
from tests.conftest import run


def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_without_its_extra_the_engine_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = r"^The engine dask is not installed: expected the package distributed, .*\[dask"
    with pytest.raises(EngineError, match=message):
        check_engine(EmbeddingParams(engine="dask"))
    check_engine(EmbeddingParams())


def test_an_address_where_nobody_listens_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    address = f"tcp://127.0.0.1:{closed_port()}"
    with pytest.raises(EngineError, match=f"^There is no engine at {address}: .*refused"):
        check_engine(EmbeddingParams(engine="dask", address=address))
    with pytest.raises(EngineError, match="There is no engine"):
        check_engine(EmbeddingParams(engine="dask", address="tcp://127.0.0.1:nine"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_engine(EmbeddingParams(engine="dask", address=f"tcp://127.0.0.1:{port}"))


def test_a_run_is_refused_before_its_first_node(monkeypatch, project):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(click.ClickException, match="The engine dask is not installed"):
        run(project, **{"embedding": {"engine": "dask"}})
    assert not list((project / "data/test").rglob("*.parquet"))
