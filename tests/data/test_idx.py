"""IDX files: what was saved comes back, and what is damaged or something else is refused."""

import gzip
import hashlib
import io
import struct
import tracemalloc

import numpy as np
import pytest

from mnist_vae.data.idx import IdxDataset, IdxError, read_idx

LABELS = np.array([5, 0, 4, 1, 9], np.uint8)
RAW = b"\0\0\x08\x01" + struct.pack(">I", 5) + bytes([5, 0, 4, 1, 9])
PACKED = gzip.compress(RAW, mtime=0)


def read(content: bytes, **checks):
    return read_idx(io.BytesIO(content), name="labels", **checks)


def header(code: int, *lengths: int) -> bytes:
    return bytes([0, 0, code, len(lengths)]) + struct.pack(f">{len(lengths)}I", *lengths)


@pytest.mark.parametrize("content", [RAW, PACKED])
def test_the_values_and_the_checksum_do_not_depend_on_the_packing(content):
    values, sha256 = read(content)
    np.testing.assert_array_equal(values, LABELS)
    assert sha256 == hashlib.sha256(RAW).hexdigest()


def test_what_was_saved_comes_back_and_equal_arrays_make_equal_files(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::-2]  # not contiguous
    for name in ("values", "first.gz", "second.gz"):
        dataset = IdxDataset(filepath=str(tmp_path / name))
        dataset.save(values)
        np.testing.assert_array_equal(dataset.load(), values)
    packed = (tmp_path / "first.gz").read_bytes()
    assert packed == (tmp_path / "second.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "values").read_bytes()


@pytest.mark.parametrize(
    ("content", "checks", "message"),
    [
        (b"\x89PNG" + RAW, {}, "not an IDX file: expected a magic number .* received 0x89504e47"),
        (RAW[:6], {}, "truncated: expected 4 more bytes of its header, received 2"),
        (b"\0\0\x0d\x01" + RAW[4:], {}, "another type: expected .*uint8.*, received .* 0x0D"),
        (header(0x08, 0, 28, 28), {}, r"no values .* received the shape \[0, 28, 28\]"),
        (RAW[:-2], {}, "truncated: expected 5 bytes of values .* received 3"),
        (RAW + b"\0", {}, "too long: expected 5 bytes of values .* received more"),
        (RAW, {"max_bytes": 4}, "too large: expected at most 4 bytes .* asks for 5"),
        (PACKED[:-12], {}, "broken gzip file"),
        (PACKED[:-8] + bytes(4) + PACKED[-4:], {}, "broken gzip file: .*CRC"),
        (PACKED[:10] + b"\xff" * 8 + PACKED[18:], {}, "broken gzip file"),
    ],
)
def test_a_file_that_is_not_what_was_asked_for_is_refused(content, checks, message):
    with pytest.raises(IdxError, match=message) as error:
        read(content, **checks)
    assert str(error.value).startswith("labels ")
    assert "\n" not in str(error.value)


def test_memory_is_bounded_by_what_the_header_asks_for():
    bomb = gzip.compress(header(0x08, 10) + bytes(64 << 20))
    tracemalloc.start()
    with pytest.raises(IdxError, match="too long"):
        read(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_an_array_that_could_not_be_read_back_is_not_saved(tmp_path):
    dataset = IdxDataset(filepath=str(tmp_path / "labels.gz"))
    with pytest.raises(IdxError, match="another type: expected uint8, received int64"):
        dataset.save(LABELS.astype(np.int64))
    with pytest.raises(IdxError, match=r"no values .* received the shape \[0\]"):
        dataset.save(LABELS[:0])
    assert list(tmp_path.iterdir()) == []
