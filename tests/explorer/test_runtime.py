"""ONNX Runtime for browsers: fetched once, checked, and said where it cannot be had."""

import hashlib
import io
import tarfile
from base64 import b64encode

import click
import pytest

from mnist_vae.explorer import runtime
from mnist_vae.explorer.runtime import FILES, runtime_folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Nothing was fetched yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An archive like that of the registry, whose checksum is the expected one."""
    path = tmp_path / "fetched" / "onnxruntime-web-1.30.0.tgz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as packed:
        for member in [*FILES, "package/README.md"]:
            info = tarfile.TarInfo(member)
            info.size = len(member)
            packed.addfile(info, io.BytesIO(member.encode()))
    digest = b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    monkeypatch.setattr(runtime, "INTEGRITY", f"sha512-{digest}")
    return path


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Put a program `npm` on the path that does as it is told, and no other."""
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    def make(script):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return make


def test_npm_fetches_the_version_that_is_pinned_once(tmp_path, archive, npm):
    npm(f'echo "$@" >> {tmp_path}/asked; cp {archive} .')
    for _ in range(2):
        assert {path.read_text(): path.name for path in runtime_folder().iterdir()} == FILES
    asked = (tmp_path / "asked").read_text()
    assert asked == "pack onnxruntime-web@1.30.0 --ignore-scripts --loglevel=error\n"


def test_the_archive_may_be_named_and_another_one_is_refused(archive):
    content = archive.read_bytes()
    archive.write_bytes(content + b"more")
    with pytest.raises(click.ClickException, match=r"is not onnxruntime-web 1\.30\.0: expected"):
        runtime_folder(archive)
    archive.write_bytes(content)
    assert {path.name for path in runtime_folder(archive).iterdir()} == set(FILES.values())


def test_without_npm_or_where_it_fails_it_says_what_to_do(tmp_path, npm, monkeypatch):
    npm("echo no network >&2; exit 3")
    with pytest.raises(click.ClickException, match=r"received exit code 3 \(no network\)"):
        runtime_folder()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(click.ClickException, match=r"the program `npm`.*--onnxruntime-web"):
        runtime_folder()
