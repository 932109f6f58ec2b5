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
import pytest
from PIL import Image, PngImagePlugin

from mnist_vae.data.idx import IdxDataset
from mnist_vae.jobs.batch_files import read_batch
from tests.incoming import dataset, images_of, put, read_all

KIB = 2**10


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
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width=28, height=28, bits=8, colour=0, before=b"", data=None):
    """Return a PNG file whose header may claim anything."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    data = zlib.compress(bytes(29 * 28)) if data is None else data
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def idx(shape, n_zeros, code=8):
    return bytes([0, 0, code, len(shape)]) + np.array(shape, ">u4").tobytes() + bytes(n_zeros)


def picture(mode, size, kind):
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind)
    return file.getvalue()


def truncated(folder):
    path = put(folder, "bad", images_of(2)) / "images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])


def not_square(folder):
    put(folder, "bad", np.zeros((2, 28, 20), np.uint8))


def floats(folder):
    put(folder, "bad", np.zeros((2, 28, 28), np.float32))


def labels_alone(folder):
    IdxDataset(filepath=str(folder / "bad/labels-idx1-ubyte")).save(np.array([1], np.uint8))


def too_few_labels(folder):
    put(folder, "bad", images_of(2), np.array([1], np.uint8))


def signed_labels(folder):
    put(folder, "bad", images_of(1), np.array([255], np.uint8))


def two_files_of_images(folder):
    put(folder, "bad", images_of(2))
    IdxDataset(filepath=str(folder / "bad/more-idx3-ubyte")).save(images_of(2))


def a_text(folder):
    (folder / "bad/notes.txt").write_text("hello, this is a note")


def a_folder(folder):
    (folder / "bad/deeper").mkdir(parents=True)


def a_folder_with_the_name_of_a_picture(folder):
    (folder / "bad/deeper.png").mkdir(parents=True)


def colour(folder):
    Image.new("RGB", (28, 28)).save(folder / "bad/a.png")


def large(folder):
    Image.new("L", (56, 28)).save(folder / "bad/a.png")


def half_a_png(folder):
    path = folder / "bad/a.png"
    Image.fromarray(images_of(1)[0]).save(path)
    path.write_bytes(path.read_bytes()[:200])


def png_and_others(folder):
    put(folder, "bad", images_of(2))
    Image.new("L", (28, 28)).save(folder / "bad/a.png")


def a_bomb(folder):
    (folder / "bad/a.png").write_bytes(png(20_000, 20_000))


def a_smaller_bomb(folder):
    (folder / "bad/a.png").write_bytes(png(10_000, 10_000))


def a_bomb_behind_a_small_header(folder):
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0))
    (folder / "bad/a.png").write_bytes(png(before=second))


def a_jpeg(folder):
    (folder / "bad/a.png").write_bytes(picture("L", (28, 28), "JPEG"))


def a_gif(folder):
    (folder / "bad/a.png").write_bytes(picture("L", (28, 28), "GIF"))


def a_tiff(folder):
    (folder / "bad/a.png").write_bytes(picture("L", (28, 28), "TIFF"))


def an_animation(folder):
    frames = [Image.fromarray(image) for image in images_of(3)]
    frames[0].save(folder / "bad/a.png", save_all=True, append_images=frames[1:])


def a_huge_png(folder):
    text = PngImagePlugin.PngInfo()
    for number in range(3):
        text.add_text(f"text{number}", "x" * 500_000)
    Image.new("L", (28, 28)).save(folder / "bad/a.png", pnginfo=text)


def a_text_bomb(folder):
    text = b"comment\0\0" + zlib.compress(bytes(2 * 2**20))
    (folder / "bad/a.png").write_bytes(png(before=chunk(b"zTXt", text)))


def a_dangling_file(folder):
    (folder / "bad/images-idx3-ubyte").symlink_to("nowhere")


def a_dangling_picture(folder):
    (folder / "bad/a.png").symlink_to("nowhere")


def a_circle(folder):
    (folder / "bad/images-idx3-ubyte").symlink_to("images-idx3-ubyte")


def a_dangling_batch(folder):
    (folder / "bad").rmdir()
    (folder / "bad").symlink_to("nowhere")


def a_batch_that_is_a_circle(folder):
    (folder / "bad").rmdir()
    (folder / "bad").symlink_to("bad")


def a_pipe(folder):
    os.mkfifo(folder / "bad/images-idx3-ubyte")


def a_pipe_with_the_name_of_a_picture(folder):
    os.mkfifo(folder / "bad/a.png")


def a_device(folder):
    (folder / "bad/images-idx3-ubyte").symlink_to("/dev/zero")


def a_socket(folder):
    # A socket's path must be short.
    with contextlib.chdir(folder / "bad"), socket.socket(socket.AF_UNIX) as server:
        server.bind("images")


def a_name_that_is_not_utf8(folder):
    (folder / "bad" / os.fsdecode(b"notes\xff.txt")).write_text("hello, this is a note")


def a_gigabyte_announced(folder):
    (folder / "bad/images-idx3-ubyte.gz").write_bytes(gzip.compress(idx((1_400_000, 28, 28), 0)))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (truncated, "is a broken gzip file: expected a complete one"),
        (not_square, r"expected uint8 \[n, 28, 28\], received uint8 \[2, 28, 20\]"),
        (floats, r"expected uint8 \[n, 28, 28\], received float32"),
        (labels_alone, "holds no images: expected an IDX file of rank 3 or PNG files"),
        (too_few_labels, "expected 2 labels, one an image, received 1"),
        (signed_labels, "expected uint8 values up to 254, received uint8 up to 255"),
        (two_files_of_images, "expected one IDX file of images"),
        (a_text, "is not an IDX file"),
        (a_folder, "holds folders, .*: expected files alone, received deeper"),
        (a_folder_with_the_name_of_a_picture, "holds folders, .* received deeper.png"),
        (colour, "expected 28 x 28 pixels of 8 bit grey .* received 28 x 28 in mode RGB"),
        (large, "received 56 x 28 in mode L"),
        (half_a_png, "is not a PNG file: expected a whole one"),
        (png_and_others, "expected PNG files alone, or IDX files alone"),
        (a_bomb, "is not a PNG file: .*400000000 pixels"),
        (a_smaller_bomb, "100000000 pixels"),
        (a_bomb_behind_a_small_header, "is not a PNG file: .*400000000 pixels"),
        (a_jpeg, "is not a PNG file"),
        (a_gif, "is not a PNG file"),
        (a_tiff, "is not a PNG file"),
        (an_animation, "received 28 x 28 in mode L with 3 frames"),
        (a_huge_png, r"is too large: expected at most 1048576 bytes .* received \d+"),
        (a_text_bomb, "is not a PNG file"),
        (a_dangling_file, "holds folders, .* received images-idx3-ubyte"),
        (a_dangling_picture, "holds folders, .* received a.png"),
        (a_circle, "holds folders, .* received images-idx3-ubyte"),
        (a_dangling_batch, "cannot be read: expected a folder of images"),
        (a_batch_that_is_a_circle, "cannot be read: expected a folder of images"),
        (a_pipe, "holds folders, .* received images-idx3-ubyte"),
        (a_pipe_with_the_name_of_a_picture, "holds folders, .* a.png"),
        (a_device, "holds folders, .* received images-idx3-ubyte"),
        (a_socket, "holds folders, .* received images"),
        (a_name_that_is_not_utf8, r"notes\\xff.txt is not an IDX file"),
        (a_gigabyte_announced, "expected at most 268435456 bytes of values"),
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


def both_wrong(folder):
    put(folder, "bad", np.zeros((2, 28, 20), np.uint8), np.array([255, 1, 1], np.uint8))


def cut_images_and_signed_labels(folder):
    put(folder, "bad", images_of(2), np.array([255, 1], np.uint8))
    path = folder / "bad/images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])


def bad_labels_alone(folder):
    put(folder, "bad", images_of(2), np.array([255], np.uint8))
    (folder / "bad/images-idx3-ubyte.gz").unlink()


def a_folder_a_pipe_and_good_images(folder):
    put(folder, "bad", images_of(2))
    (folder / "bad/deeper").mkdir()
    (folder / "bad/deeper too").mkdir()
    os.mkfifo(folder / "bad/pipe")


def a_text_a_cut_file_and_bad_labels(folder):
    cut_images_and_signed_labels(folder)
    a_text(folder)


def pictures_of_every_kind_and_others(folder):
    colour(folder)
    (folder / "bad/b.png").write_bytes(b"GIF89a" + bytes(50))
    Image.fromarray(images_of(1)[0]).save(folder / "bad/good.png")
    a_text(folder)


@pytest.mark.parametrize(
    ("make", "sentences"),
    [
        (
            both_wrong,
            [
                "received uint8 [2, 28, 20]",
                "expected uint8 values up to 254",
                "expected 2 labels, one an image, received 3",
            ],
        ),
        (
            cut_images_and_signed_labels,
            ["is a broken gzip file", "expected uint8 values up to 254"],
        ),
        (bad_labels_alone, ["holds no images", "expected uint8 values up to 254"]),
        (too_few_labels, ["expected 2 labels, one an image, received 1"]),
        (signed_labels, ["expected uint8 values up to 254"]),
        (two_files_of_images, ["expected one IDX file of images"]),
        (
            a_folder_a_pipe_and_good_images,
            [
                "expected files alone, received deeper, deeper too, pipe",
            ],
        ),
        (
            a_text_a_cut_file_and_bad_labels,
            ["is a broken gzip file", "notes.txt is not an IDX file", "values up to 254"],
        ),
        (
            pictures_of_every_kind_and_others,
            [
                "received notes.txt too; separate them",
                "a.png is not an image",
                "b.png is not a PNG",
            ],
        ),
    ],
)
def test_all_that_is_wrong_with_a_folder_is_said(incoming, bad, make, sentences):
    make(incoming)
    batch = read_all(dataset(incoming))["bad"]
    assert len(batch.problems) == len(sentences), batch.problems
    for problem, sentence in zip(batch.problems, sentences, strict=True):
        assert sentence in problem
    assert batch.images is None


def test_images_of_pictures_are_known_by_their_names(incoming, bad):
    for name, image in zip("ac", images_of(2), strict=True):
        Image.fromarray(image).save(bad / f"{name}.png")
    assert read_all(dataset(incoming))["bad"].names == ("a.png", "c.png")


@pytest.mark.parametrize("suffix", [".png", ".txt"])
def test_very_many_bad_files_are_not_very_many_sentences_nor_all_looked_at(incoming, bad, suffix):
    for number in range(102):
        (bad / f"{number:03d}{suffix}").write_bytes(b"hello, this is no image")
    problems = read_all(dataset(incoming))["bad"].problems
    assert len(problems) == 6
    assert "004" in problems[4]
    names = ", ".join(f"00{number}{suffix}" for number in range(5, 10))
    assert f"holds more bad files: expected none, received {names} and 90 more" in problems[5]
    assert "the 2 files after them were not looked at" in problems[5]
    for number in (100, 101):
        (bad / f"{number}{suffix}").unlink()
    assert "looked at" not in read_all(dataset(incoming))["bad"].problems[5]


def test_what_stops_the_reading_of_pictures_is_said_after_the_bad_ones_before_it(
    incoming, bad, monkeypatch
):
    for name in "abc":
        Image.new("RGB" if name == "a" else "L", (28, 28)).save(bad / f"{name}.png")
    opened, real = [], Image.open

    def open_or_fail(path, **kwargs):
        opened.append(path.name)
        if path.name == "b.png":
            raise MemoryError("out of memory")
        return real(path, **kwargs)

    monkeypatch.setattr("PIL.Image.open", open_or_fail)
    first, second = read_all(dataset(incoming))["bad"].problems
    assert "a.png is not an image" in first
    assert "received MemoryError: out of memory" in second
    assert opened == ["a.png", "b.png"], "it may be that the process is asked to end"


def test_a_picture_of_the_wrong_size_or_format_is_refused_before_it_is_decoded(
    incoming, bad, monkeypatch
):
    def refuse(*_):
        raise AssertionError("a pixel was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    (bad / "a.png").write_bytes(png(9_000, 9_000))
    assert "received 9000 x 9000 in mode L" in read_all(dataset(incoming))["bad"].problem
    (bad / "a.png").write_bytes(png(colour=2))
    assert "received 28 x 28 in mode RGB" in read_all(dataset(incoming))["bad"].problem


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
    (incoming / "png").mkdir()
    for number in range(3):
        (incoming / f"png/{number}.png").write_bytes(png())
    enough = read_all(dataset(incoming, max_bytes=3 * 784 + 3))
    assert [batch.problem for batch in enough.values()] == [None, None]
    labels_too_many = read_all(dataset(incoming, max_bytes=3 * 784 + 2))
    assert "labels-idx1-ubyte is too large" in labels_too_many["idx"].problem
    assert labels_too_many["png"].problem is None
    too_little = read_all(dataset(incoming, max_bytes=3 * 784 - 1))
    assert "is too large" in too_little["idx"].problem
    assert "holds 3 PNG files: expected at most 2" in too_little["png"].problem


def test_a_folder_of_very_many_files_is_refused_in_a_short_sentence(incoming, bad, monkeypatch):
    monkeypatch.setattr("mnist_vae.data.disk.MAX_FILES", 20)
    for number in range(20):
        (bad / f"{number}.txt").touch()
    (bad / "a.png").touch()
    assert "more than 20 files" in read_all(dataset(incoming))["bad"].problem
    (bad / "0.txt").unlink()
    problems = read_all(dataset(incoming))["bad"].problems
    assert problems[0].endswith("and 14 more too; separate them.")
    assert len(problems) == 2, "the picture is empty"


def test_a_folder_with_nothing_in_it_holds_no_images(bad):
    batch = read_batch(bad)
    assert "holds no images: " in batch.problem
    assert "received nothing; add the images" in batch.problem


def test_a_batch_behind_a_link_is_read(incoming, tmp_path):
    put(tmp_path, "elsewhere", images_of(2))
    incoming.mkdir()
    (incoming / "linked").symlink_to(tmp_path / "elsewhere")
    assert len(read_all(dataset(incoming))["linked"].images) == 2


def test_whatever_a_reader_raises_is_told(incoming, monkeypatch):
    put(incoming, "good", images_of(1))

    def fail(*_, **__):
        raise MemoryError("out of\nmemory \udcff")

    monkeypatch.setattr("mnist_vae.jobs.batch_files.read_idx", fail)
    problem = read_all(dataset(incoming))["good"].problem
    assert problem.endswith(r"received MemoryError: out of\x0amemory \xff; get a fresh copy.")


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
    return os.fsdecode(raw + rng.choice((b".png", b".PNG", b".gz", b"", b"\n.png", b"%s")))


def test_no_file_whatsoever_makes_the_reader_raise(incoming):
    rng = random.Random(0)
    images = idx((2, 28, 28), 0) + images_of(2).tobytes()
    animation = io.BytesIO()
    frames = [Image.fromarray(image) for image in images_of(2)]
    frames[0].save(animation, "PNG", save_all=True, append_images=frames[1:])
    seeds = [images, gzip.compress(images), png(), png(bits=4, colour=3), animation.getvalue()]
    seeds += [idx((2,), 2), picture("L", (28, 28), "TIFF"), b"\0\0\x08\xff" + b"\xff" * 1020]
    for number in range(400):
        folder = incoming / f"{number:03d}"
        folder.mkdir(parents=True)
        for _ in range(rng.choice((1, 1, 2, 3))):
            content = mutated(rng, rng.choice(seeds)) if rng.random() < 0.9 else rng.randbytes(50)
            (folder / random_name(rng)).write_bytes(content)
    batches = dataset(incoming, max_bytes=KIB * KIB)
    read = read_all(batches)
    assert len(read) > 350, "but those whose only file is hidden"
    for batch in read.values():
        assert (batch.problems == ()) == (batch.images is not None)
        assert (batch.problem is None) == (batch.problems == ())
        assert len(batch.problems) < 10
        str(batch.problem).encode()
    assert any(len(batch.problems) > 1 for batch in read.values())
    good = sum(batch.images is not None for batch in read.values())
    assert 5 < good < 200
