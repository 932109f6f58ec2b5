"""What comes from others may be anything: it is told, and it stops nothing else."""

import contextlib
import gzip
import io
import os
import random
import re
import socket
import struct
import tracemalloc
import zlib

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


def chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(width=28, height=28, bits=8, colour=0, before=b""):
    """Return a PNG file whose header may claim anything."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(29 * 28)))
    return b"\x89PNG\r\n\x1a\n" + header + before + data + chunk(b"IEND", b"")


def idx(shape, n_zeros, code=8):
    return bytes([0, 0, code, len(shape)]) + np.array(shape, ">u4").tobytes() + bytes(n_zeros)


def save(path, mode="L", size=(28, 28), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path, **options)


def parquet(path, n=3, n_bytes=784, **columns):
    pixels = pa.array([bytes([row]) * n_bytes for row in range(n)], pa.binary(n_bytes))
    pq.write_table(pa.table({"pixels": pixels, **columns}), path)


def truncated(folder):
    path = put(folder, "bad", images_of(2)) / "images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])


def labels_alone(folder):
    IdxDataset(filepath=str(folder / "bad/labels-idx1-ubyte")).save(np.array([1], np.uint8))


def two_files_of_images(folder):
    put(folder, "bad", images_of(2))
    IdxDataset(filepath=str(folder / "bad/more-idx3-ubyte")).save(images_of(2))


def half_a_png(folder):
    path = folder / "bad/a.png"
    Image.fromarray(images_of(1)[0]).save(path)
    path.write_bytes(path.read_bytes()[:200])


def pictures_and_others(folder):
    save(folder / "bad/good.png")
    (folder / "bad/b.png").write_bytes(b"GIF89a" + bytes(50))
    put(folder, "bad", images_of(2))


def a_bomb_behind_a_small_header(folder):
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0))
    (folder / "bad/a.png").write_bytes(png(before=second))


def a_text_bomb(folder):
    text = b"comment\0\0" + zlib.compress(bytes(2 * 2**20))
    (folder / "bad/a.png").write_bytes(png(before=chunk(b"zTXt", text)))


def an_animation(folder):
    frames = [Image.fromarray(image) for image in images_of(3)]
    frames[0].save(folder / "bad/a.png", save_all=True, append_images=frames[1:])


def half_a_table(folder):
    parquet(folder / "bad/a.parquet")
    content = (folder / "bad/a.parquet").read_bytes()
    (folder / "bad/a.parquet").write_bytes(content[:-30])


def a_table_and_others(folder):
    parquet(folder / "bad/a.parquet")
    (folder / "bad/README").touch()


def a_socket(folder):
    # A socket's path must be short.
    with contextlib.chdir(folder / "bad"), socket.socket(socket.AF_UNIX) as server:
        server.bind("images")


def written(name, content):
    return lambda folder: (folder / "bad" / name).write_bytes(content)


def linked(name, target):
    return lambda folder: (folder / "bad" / name).symlink_to(target)


def delivered(images, labels=None):
    return lambda folder: put(folder, "bad", images, labels)


BYTE = np.array([255], np.uint8)
NOT_FILES = "holds pipes, devices, or links .*: expected files and folders alone, received "


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (truncated, "is a broken gzip file: expected a complete one"),
        (delivered(np.zeros((2, 28, 20), np.uint8)), "expected 28 x 28 pixels, received 28 x 20"),
        (written("images", idx((2, 28, 28), 0, code=0x0D)), "another type: .* unsigned bytes"),
        (labels_alone, "holds no images: expected an IDX file of rank 3, received labels"),
        (delivered(images_of(2), BYTE), "expected 2 labels, one an image, received 1"),
        (delivered(images_of(1), BYTE), "expected values up to 254, received 255"),
        (two_files_of_images, "expected one IDX file of images"),
        (written("notes.txt", b"hello, this is a note"), "is not an IDX file"),
        (
            written(os.fsdecode(b"notes\xff.txt"), b"hello, a note"),
            r"notes\\udcff.txt is not an IDX",
        ),
        (written("images.gz", gzip.compress(idx((1_400_000, 28, 28), 0))), "at most 268435456 byt"),
        (lambda folder: (folder / "bad/deeper.png").mkdir(), "holds no images: .* IDX file"),
        (half_a_png, r"has 1 bad files of 1: expected none, received a.png \(cannot be decoded"),
        (pictures_and_others, r"has 2 bad files of 3: .* b.png \(expected a PNG.* images-idx3"),
        (written("a.png", png(20_000, 20_000)), r"a.png \(cannot be decoded .*400000000 pixels"),
        (written("a.png", png(9_000, 9_000)), "at most 50,000,000 pixels, received 9000 x 9000"),
        (a_bomb_behind_a_small_header, r"a.png \(.*400000000 pixels"),
        (an_animation, "expected one picture, received 3 in one file"),
        (a_text_bomb, r"a.png \(cannot be decoded"),
        (lambda folder: save(folder / "bad/cat/a.png"), "numbers from 0 to 254, received cat; cor"),
        (half_a_table, "expected a folder of images, received ArrowInvalid|cannot be read"),
        (a_table_and_others, "expected Parquet files alone, received README too"),
        (lambda folder: parquet(folder / "bad/a.parquet", n_bytes=9), "`pixels` of 784 bytes"),
        (linked("images-idx3-ubyte", "nowhere"), f"{NOT_FILES}images-idx3-ubyte"),
        (linked("a.png", "a.png"), f"{NOT_FILES}a.png"),
        (linked("folder", "/tmp"), f"{NOT_FILES}folder"),
        (linked("images-idx3-ubyte", "/dev/zero"), f"{NOT_FILES}images-idx3-ubyte"),
        (lambda folder: os.mkfifo(folder / "bad/a.png"), f"{NOT_FILES}a.png"),
        (a_socket, f"{NOT_FILES}images"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_no_batch_is_said_and_does_not_stop_the_others(incoming, bad, make, sentence):
    make(incoming)
    put(incoming, "a good one before", images_of(1))
    put(incoming, "the good one after", images_of(1))
    before, between, after = read_all(dataset(incoming)).values()
    assert between.images is None
    assert re.search(sentence, between.problem), between.problem
    assert between.problem.encode().decode() == between.problem, "it can be printed"
    assert "\n" not in between.problem
    assert before.problem is after.problem is None


def test_pictures_have_the_size_the_ink_and_the_classes_of_the_models_images(incoming, bad):
    Image.new("RGB", (60, 40), "white").save(bad / "a.png")
    unlabelled = read_batch(bad, form=NAMED)
    assert (unlabelled.images.shape, unlabelled.labels) == ((1, 4, 6), None)
    assert not unlabelled.images.any()
    save(incoming / "named/é/a.jpg", size=(12, 8))
    save(incoming / "named/é/b.png", "1", size=(6, 4))
    named = read_batch(incoming / "named", form=NAMED)
    assert named.labels.tolist() == [1, 1]
    assert named.class_names == NAMED.class_names
    assert named.names == ("é/a.jpg", "é/b.png")
    assert (named.images == 255).all()


def test_tables_have_labels_of_the_models_classes(bad):
    parquet(bad / "a.parquet", n_bytes=24, label=["é", None, "rose"])
    batch = read_batch(bad, form=NAMED)
    assert batch.labels.tolist() == [1, 255, 0]
    assert batch.images[:, 0, 0].tolist() == [0, 1, 2]
    parquet(bad / "a.parquet", n_bytes=24, label=[0, 1, 0])
    assert "expected rose, é, received 0, 1" in read_batch(bad, form=NAMED).problem


def test_a_packed_file_takes_no_more_memory_than_a_batch_may_have(incoming, bad):
    packed = gzip.compress(idx((100, 28, 28), 64 * KIB * KIB))  # 64 MiB behind 100 images
    (bad / "images.gz").write_bytes(packed)
    tracemalloc.start()
    try:
        problem = read_all(dataset(incoming, max_bytes=100 * 784))["bad"].problem
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
    assert [batch.problem for batch in enough.values()] == [None, None, None]
    too_little = read_all(dataset(incoming, max_bytes=3 * 784 - 1))
    assert "is too large" in too_little["idx"].problem
    for name in ("pictures", "table"):
        assert "holds 3 images: expected at most 2" in too_little[name].problem


def test_a_folder_of_very_many_files_is_refused_in_a_short_sentence(bad, monkeypatch):
    monkeypatch.setattr("mnist_vae.data.disk.MAX_FILES", 20)
    for number in range(20):
        save(bad / f"{number}.png")
    assert read_batch(bad).problem is None
    save(bad / "x.png")
    assert "more than 20 files" in read_batch(bad).problem
    assert len(read_batch(bad).problem) < 400


def test_a_batch_behind_a_link_is_read(incoming, tmp_path):
    put(tmp_path, "elsewhere", images_of(2))
    incoming.mkdir()
    (incoming / "linked").symlink_to(tmp_path / "elsewhere")
    assert len(read_all(dataset(incoming))["linked"].images) == 2


@pytest.mark.parametrize("reader", ["read_idx", "read_pictures"])
def test_whatever_a_reader_raises_is_told(incoming, monkeypatch, reader):
    if reader == "read_idx":
        put(incoming, "good", images_of(1))
    else:
        save(incoming / "good/a.png")

    def fail(*_, **__):
        raise MemoryError("out of\nmemory \udcff")

    monkeypatch.setattr(f"mnist_vae.jobs.batch_files.{reader}", fail)
    problem = read_all(dataset(incoming))["good"].problem
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
    files = {kind: io.BytesIO() for kind in ("animation", "tiff", "parquet")}
    frames[0].save(files["animation"], "PNG", save_all=True, append_images=frames[1:])
    frames[0].save(files["tiff"], "TIFF")
    parquet(files["parquet"])
    seeds = [images, gzip.compress(images), png(), png(bits=4, colour=3), idx((2,), 2)]
    seeds += [b"\0\0\x08\xff" + b"\xff" * 1020, *(file.getvalue() for file in files.values())]
    for number in range(400):
        folder = incoming / f"{number:03d}"
        folder.mkdir(parents=True)
        for _ in range(rng.choice((1, 1, 2, 3))):
            content = mutated(rng, rng.choice(seeds)) if rng.random() < 0.9 else rng.randbytes(50)
            (folder / random_name(rng)).write_bytes(content)
    read = read_all(dataset(incoming, max_bytes=KIB * KIB))
    assert len(read) > 350, "but those whose only file is hidden"
    for batch in read.values():
        assert (batch.problem is None) == (batch.images is not None)
        str(batch.problem).encode()
    assert 5 < sum(batch.images is not None for batch in read.values()) < 200
