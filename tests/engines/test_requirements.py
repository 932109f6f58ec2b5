"""An engine that cannot be had is refused in one sentence, before any work."""

import importlib.util
import socket

import click
import pytest

from mnist_vae.engines import EngineError, check_engine, requirements
from mnist_vae.params import EmbeddingParams
from tests.conftest import run


def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize(("engine", "package"), [("dask", "distributed"), ("spark", "pyspark")])
def test_without_its_extra_an_engine_is_refused(monkeypatch, engine, package):
    find = importlib.util.find_spec
    without = lambda name: None if name == package else find(name)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", without)
    message = (
        rf"^The engine {engine} is not installed: expected the package {package}, .*\[{engine}"
    )
    with pytest.raises(EngineError, match=message):
        check_engine(EmbeddingParams(engine=engine))
    check_engine(EmbeddingParams())


def test_spark_without_java_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(EngineError, match=r"^Spark needs Java: .* received none"):
        check_engine(EmbeddingParams(engine="spark"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/java").touch()
    check_engine(EmbeddingParams(engine="spark"))


@pytest.mark.parametrize(("engine", "scheme"), [("dask", "tcp"), ("spark", "spark")])
def test_an_address_where_nobody_listens_is_refused(monkeypatch, engine, scheme):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(requirements, "_has_java", lambda: True)
    address = f"{scheme}://127.0.0.1:{closed_port()}"
    with pytest.raises(EngineError, match=f"^There is no engine at {address}: .*refused"):
        check_engine(EmbeddingParams(engine=engine, address=address))
    with pytest.raises(EngineError, match="There is no engine"):
        check_engine(EmbeddingParams(engine=engine, address=f"{scheme}://127.0.0.1:nine"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_engine(EmbeddingParams(engine=engine, address=f"{scheme}://127.0.0.1:{port}"))


def test_a_run_is_refused_before_its_first_node(monkeypatch, project):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(click.ClickException, match="The engine dask is not installed"):
        run(project, **{"embedding": {"engine": "dask"}})
    assert not (project / "data/test").exists()
