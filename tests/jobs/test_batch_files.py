"""What comes from others may be anything: it is reported, and it stops nothing else."""

import gzip
import os
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mnist_vae.data.idx import IdxDataset
from mnist_vae.data.origin import ImageForm
from mnist_vae.jobs.batch_files import read_batch
from tests.incoming import dataset, images_of, put, read_all

NAMED = ImageForm(shape=(4, 6), class_names=("rose", "é"), inverted=True)


@pytest.fixture
def bad(tmp_path):
    """The folder of a batch that a test makes bad."""
    folder = tmp_path / "bad"
    folder.mkdir()
    return folder


def idx(shape, n_zeros):
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes() + bytes(n_zeros)


def save(path, mode="L", size=(28, 28), color=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


def parquet(path, n_bytes=784, **columns):
    pixels = pa.array([bytes([row]) * n_bytes for row in range(3)], pa.binary(n_bytes))
    pq.write_table(pa.table({"pixels": pixels, **columns}), path)


def a_table_and_others(folder):
    parquet(folder / "a.parquet")
    (folder / "README").touch()


def pictures_and_others(folder):
    save(folder / "good.png")
    (folder / "b.png").write_bytes(b"GIF89a" + bytes(50))
    (folder / "images-idx3-ubyte").touch()


def arrays(**values):
    """Leave IDX files, by their names."""

    def make(folder):
        for name, array in values.items():
            IdxDataset(filepath=str(folder / name)).save(np.asarray(array, np.uint8))

    return make


def written(name, content):
    return lambda folder: (folder / name).write_bytes(content)


PACKED = gzip.compress(idx((1_400_000, 28, 28), 0))
NOT_FILES = "holds pipes, devices, or links .*: expected files and folders alone, received "


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (written("a.gz", gzip.compress(idx((2, 28, 28), 1568))[:-20]), "is a broken gzip file"),
        (arrays(images=np.zeros((2, 28, 20))), "expected 28 x 28 pixels, received 28 x 20"),
        (arrays(a=images_of(2), b=[255]), "expected 2 labels, one an image, received 1"),
        (arrays(a=images_of(1), b=[255]), "expected values up to 254, received 255"),
        (written(os.fsdecode(b"no\xff.txt"), b"hello, a note"), r"no\\udcff.txt is not an IDX"),
        (written("images.gz", PACKED), "at most 268435456 byt"),
        (lambda folder: (folder / "deeper.png").mkdir(), "holds no images: .* received nothing"),
        (pictures_and_others, r"has 2 bad files of 3: .* b.png \(expected a PNG.* images-idx3"),
        (lambda folder: save(folder / "cat/a.png"), "numbers from 0 to 254, received cat; cor"),
        (a_table_and_others, "expected Parquet files alone, received README too"),
        (lambda folder: (folder / "a").symlink_to("/dev/zero"), f"{NOT_FILES}a"),
        (lambda folder: os.mkfifo(folder / "a.png"), f"{NOT_FILES}a.png"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_no_batch_is_reported_and_does_not_stop_the_others(tmp_path, bad, make, sentence):
    make(bad)
    put(tmp_path, "a good one before", images_of(1))
    put(tmp_path, "the good one after", images_of(1))
    before, between, after = read_all(dataset(tmp_path)).values()
    (problem,) = between.problems
    assert between.images is None
    assert re.search(sentence, problem), problem
    assert problem.encode().decode() == problem, "it can be printed"
    assert "\n" not in problem
    assert before.problems == after.problems == ()


def test_a_folder_that_fails_for_any_other_reason_is_bad_and_the_others_are_read(
    tmp_path, bad, monkeypatch
):
    put(tmp_path, "good", images_of(1))
    scandir = os.scandir

    def refuse(path):
        if path == str(bad):
            raise PermissionError("not\nyours \udcff")
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    read = read_all(dataset(tmp_path))
    assert read["good"].problems == ()
    (problem,) = read["bad"].problems
    assert problem.endswith(
        "cannot be read: expected a folder of images, received PermissionError: "
        r"not\nyours \udcff; get a fresh copy."
    )


def test_pictures_have_the_size_the_ink_and_the_classes_of_the_models_images(tmp_path, bad):
    save(bad / "a.png", "RGB", (60, 40), "white")
    unlabelled = read_batch(bad, form=NAMED).images
    assert (unlabelled.pictures.shape, unlabelled.label) == ((1, 4, 6), None)
    assert not unlabelled.pixels.any()
    save(tmp_path / "named/é/a.jpg", size=(12, 8))
    save(tmp_path / "named/é/b.png", "1", size=(6, 4))
    named = read_batch(tmp_path / "named", form=NAMED).images
    assert (named.label.tolist(), named.class_names) == ([1, 1], NAMED.class_names)
    assert named.file.tolist() == ["é/a.jpg", "é/b.png"]
    assert (named.pixels == 255).all()


def test_tables_have_labels_of_the_models_classes(bad):
    parquet(bad / "a.parquet", n_bytes=24, label=["é", None, "rose"])
    images = read_batch(bad, form=NAMED).images
    assert images.label.tolist() == [1, 255, 0]
    assert images.pixels[:, 0].tolist() == [0, 1, 2]
    parquet(bad / "a.parquet", n_bytes=24, label=[0, 1, 0])
    assert "expected rose, é, received 0, 1" in read_batch(bad, form=NAMED).problems[0]


def test_a_batch_may_have_so_many_bytes_and_no_more(tmp_path):
    put(tmp_path, "idx", images_of(3), np.array([1, 2, 3], np.uint8))
    for number in range(3):
        save(tmp_path / f"pictures/{number}.png")
    (tmp_path / "table").mkdir()
    parquet(tmp_path / "table/a.parquet")
    enough = read_all(dataset(tmp_path, max_bytes=3 * 784 + 3))
    assert [batch.problems for batch in enough.values()] == [()] * 3
    too_little = read_all(dataset(tmp_path, max_bytes=3 * 784 - 1))
    assert "is too large" in too_little["idx"].problems[0]
    for name in ("pictures", "table"):
        assert "too many images: expected 2 at most" in too_little[name].problems[0]


def test_a_batch_behind_a_link_is_read(tmp_path):
    (tmp_path / "linked").symlink_to(put(tmp_path, ".elsewhere", images_of(2)))
    assert len(read_all(dataset(tmp_path))["linked"].images) == 2
