"""What comes from others may be anything: it is told, and it stops nothing else."""

import gzip
import io
import os
import random
import re
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mnist_vae.data.idx import IdxDataset
from mnist_vae.data.origin import ImageForm
from mnist_vae.jobs.batch_files import read_batch
from tests.incoming import dataset, images_of, put, read_all

KIB = 2**10
NAMED = ImageForm(shape=(4, 6), class_names=("rose", "é"), inverted=True)


@pytest.fixture
def incoming(tmp_path):
    return tmp_path / "incoming"


@pytest.fixture
def bad(incoming):
    """The folder of a batch that a test makes bad."""
    folder = incoming / "bad"
    folder.mkdir(parents=True)
    return folder


def idx(shape, n_zeros):
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes() + bytes(n_zeros)


def save(path, mode="L", size=(28, 28), **options):
    if isinstance(path, os.PathLike):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path, **options)


def parquet(path, n=3, n_bytes=784, **columns):
    pixels = pa.array([bytes([row]) * n_bytes for row in range(n)], pa.binary(n_bytes))
    pq.write_table(pa.table({"pixels": pixels, **columns}), path)


def half_a_table(folder):
    parquet(folder / "a.parquet")
    content = (folder / "a.parquet").read_bytes()
    (folder / "a.parquet").write_bytes(content[:-30])


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


def linked(name, target):
    return lambda folder: (folder / name).symlink_to(target)


PACKED = gzip.compress(idx((1_400_000, 28, 28), 0))
NOT_FILES = "holds pipes, devices, or links .*: expected files and folders alone, received "


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (written("a.gz", gzip.compress(idx((2, 28, 28), 1568))[:-20]), "is a broken gzip file"),
        (arrays(images=np.zeros((2, 28, 20))), "expected 28 x 28 pixels, received 28 x 20"),
        (arrays(labels=[1]), "holds no images: expected an IDX file of rank 3, .* received labels"),
        (arrays(a=images_of(2), b=[255]), "expected 2 labels, one an image, received 1"),
        (arrays(a=images_of(1), b=[255]), "expected values up to 254, received 255"),
        (arrays(a=images_of(2), b=images_of(2)), "expected one IDX file of images"),
        (written(os.fsdecode(b"no\xff.txt"), b"hello, a note"), r"no\\udcff.txt is not an IDX"),
        (written("images.gz", PACKED), "at most 268435456 byt"),
        (lambda folder: (folder / "deeper.png").mkdir(), "holds no images: .* received nothing"),
        (pictures_and_others, r"has 2 bad files of 3: .* b.png \(expected a PNG.* images-idx3"),
        (lambda folder: save(folder / "cat/a.png"), "numbers from 0 to 254, received cat; cor"),
        (half_a_table, "expected a folder of images, received ArrowInvalid|cannot be read"),
        (a_table_and_others, "expected Parquet files alone, received README too"),
        (lambda folder: parquet(folder / "a.parquet", n_bytes=9), "`pixels` of 784 bytes"),
        (linked("images-idx3-ubyte", "nowhere"), f"{NOT_FILES}images-idx3-ubyte"),
        (linked("folder", "/tmp"), f"{NOT_FILES}folder"),
        (linked("images-idx3-ubyte", "/dev/zero"), f"{NOT_FILES}images-idx3-ubyte"),
        (lambda folder: os.mkfifo(folder / "a.png"), f"{NOT_FILES}a.png"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_no_batch_is_said_and_does_not_stop_the_others(incoming, bad, make, sentence):
    make(bad)
    put(incoming, "a good one before", images_of(1))
    put(incoming, "the good one after", images_of(1))
    before, between, after = read_all(dataset(incoming)).values()
    (problem,) = between.problems
    assert between.images is None
    assert re.search(sentence, problem), problem
    assert problem.encode().decode() == problem, "it can be printed"
    assert "\n" not in problem
    assert before.problems == after.problems == ()


def test_pictures_have_the_size_the_ink_and_the_classes_of_the_models_images(incoming, bad):
    Image.new("RGB", (60, 40), "white").save(bad / "a.png")
    unlabelled = read_batch(bad, form=NAMED).images
    assert (unlabelled.pictures.shape, unlabelled.label) == ((1, 4, 6), None)
    assert not unlabelled.pixels.any()
    save(incoming / "named/é/a.jpg", size=(12, 8))
    save(incoming / "named/é/b.png", "1", size=(6, 4))
    named = read_batch(incoming / "named", form=NAMED).images
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


def test_a_packed_file_takes_no_more_memory_than_a_batch_may_have(bad):
    packed = gzip.compress(idx((100, 28, 28), 64 * KIB * KIB))  # 64 MiB behind 100 images
    (bad / "images.gz").write_bytes(packed)
    tracemalloc.start()
    try:
        (problem,) = read_batch(bad, max_bytes=100 * 784).problems
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "is too long" in problem
    assert peak < 8 * KIB * KIB


def test_a_batch_may_have_so_many_bytes_and_no_more(incoming):
    put(incoming, "idx", images_of(3), np.array([1, 2, 3], np.uint8))
    for number in range(3):
        save(incoming / f"pictures/{number}.png")
    (incoming / "table").mkdir()
    parquet(incoming / "table/a.parquet")
    enough = read_all(dataset(incoming, max_bytes=3 * 784 + 3))
    assert [batch.problems for batch in enough.values()] == [()] * 3
    too_little = read_all(dataset(incoming, max_bytes=3 * 784 - 1))
    assert "is too large" in too_little["idx"].problems[0]
    for name in ("pictures", "table"):
        assert "too many images: expected 2 at most" in too_little[name].problems[0]


def test_a_folder_of_very_many_files_is_refused_in_a_short_sentence(bad, monkeypatch):
    monkeypatch.setattr("mnist_vae.data.disk.MAX_FILES", 20)
    for number in range(20):
        save(bad / f"{number}.png")
    assert read_batch(bad).problems == ()
    save(bad / "x.png")
    (problem,) = read_batch(bad).problems
    assert "expected 20 at most" in problem
    assert len(problem) < 400


def test_a_batch_behind_a_link_is_read(incoming, tmp_path):
    put(tmp_path, "elsewhere", images_of(2))
    incoming.mkdir()
    (incoming / "linked").symlink_to(tmp_path / "elsewhere")
    assert len(read_all(dataset(incoming))["linked"].images) == 2


def test_whatever_a_reader_raises_is_told(bad, monkeypatch):
    def fail(*_, **__):
        raise MemoryError("out of\nmemory \udcff")

    save(bad / "a.png")
    monkeypatch.setattr("mnist_vae.jobs.batch_files.read_pictures", fail)
    (problem,) = read_batch(bad).problems
    assert problem.endswith(r"received MemoryError: out of\nmemory \udcff; get a fresh copy.")


def mutated(rng, content):
    """Return `content` with a few bytes changed, or cut, or with something behind it."""
    content = bytearray(content)
    for _ in range(rng.choice((0, 0, 1, 2, 5))):
        content[rng.randrange(min(len(content), rng.choice((8, 40, 10_000))))] = rng.randrange(256)
    end = rng.choice((len(content), len(content), rng.randrange(len(content))))
    return bytes(content[:end]) + rng.choice((b"", b"", b"more"))


def random_name(rng):
    raw = rng.choice((rng.randbytes(rng.randrange(1, 9)), b"images", b"a", "漢字".encode()))
    raw = raw.translate(None, b"/\0") or b"x"
    suffixes = (b".png", b".PNG", b".gz", b"", b"\n.png", b"%s", b".parquet")
    return os.fsdecode(raw + rng.choice(suffixes))


def test_no_file_whatsoever_makes_the_reader_raise(incoming):
    rng = random.Random(0)
    images = idx((2, 28, 28), 0) + images_of(2).tobytes()
    frames = [Image.fromarray(image) for image in images_of(2)]
    files = {kind: io.BytesIO() for kind in ("animation", "tiff", "png", "palette", "parquet")}
    frames[0].save(files["animation"], "PNG", save_all=True, append_images=frames[1:])
    frames[0].save(files["tiff"], "TIFF")
    save(files["png"], format="PNG")
    save(files["palette"], "P", format="PNG")
    parquet(files["parquet"])
    seeds = [images, gzip.compress(images), idx((2,), 2), b"\0\0\x08\xff" + b"\xff" * 1020]
    seeds += [file.getvalue() for file in files.values()]
    for number in range(400):
        folder = incoming / f"{number:03d}"
        folder.mkdir(parents=True)
        for _ in range(rng.choice((1, 1, 2, 3))):
            content = mutated(rng, rng.choice(seeds)) if rng.random() < 0.9 else rng.randbytes(50)
            (folder / random_name(rng)).write_bytes(content)
    read = read_all(dataset(incoming, max_bytes=KIB * KIB))
    assert len(read) > 350, "but those whose only file is hidden"
    for batch in read.values():
        assert bool(batch.problems) == (batch.images is None)
        str(batch.problems).encode()
    assert 5 < sum(batch.images is not None for batch in read.values()) < 200
