"""Images in Parquet, of a user's own: what is read, and what is refused before any work."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kedro.io.core import DatasetError

from mnist_vae.data.images import UNLABELLED
from mnist_vae.data.parquet_archive import ParquetArchiveDataset

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (100, 784), np.uint8)
TEXT = [row.tobytes() for row in PIXELS]
LABELS = np.arange(100) % 10
SPLITS = np.where(np.arange(100) % 4, "train", "test")


def table(rows=slice(None), **columns):
    """Return a table of some of the images; a column of None is left out."""
    count = len(TEXT[rows])
    values = {
        "pixels": pa.array(TEXT[rows], pa.binary(784)),
        "image_id": pa.array(np.arange(100)[rows] + 7),
        "label": pa.array(LABELS[rows], pa.int64()),
        "split": pa.array(SPLITS[rows].tolist(), pa.string()),
        "other": pa.array(["x"] * count, pa.string()),
        **columns,
    }
    return pa.table({name: value for name, value in values.items() if value is not None})


def dataset(folder):
    return ParquetArchiveDataset(path=str(folder), name="mine")


def write(folder, name="a.parquet", **columns):
    pq.write_table(table(**columns), folder / name, row_group_size=30)


def test_a_folder_of_files_is_read_in_the_order_of_their_names(tmp_path):
    write(tmp_path, "b.parquet", rows=slice(60, 100))
    write(tmp_path, "a.parquet", rows=slice(60))
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "notes.txt").write_text("nothing")
    # What a writer keeps for itself is not data.
    for place in ("_delta_log", ".ipynb_checkpoints", "split=train/.spark-staging-1/split=train"):
        (tmp_path / place).mkdir(parents=True)
        write(tmp_path, f"{place}/part.parquet", image_id=None)
    images, manifest = vars(dataset(tmp_path).load()).values()
    np.testing.assert_array_equal(images.pixels, PIXELS)
    np.testing.assert_array_equal(images.image_id, np.arange(100) + 7)
    np.testing.assert_array_equal(images.label, LABELS)
    np.testing.assert_array_equal(images.split, SPLITS)
    assert manifest["statement"] == "Data: mine, 100 images, in 2 Parquet files."
    assert (manifest["n_train"], manifest["n_test"], manifest["source"]) == (75, 25, "parquet")
    items = {name: file["items"] for name, file in manifest["files"].items()}
    assert items == {"a.parquet": 60, "b.parquet": 40}


def by_pandas(images, root):
    images.to_pandas().to_parquet(root, partition_cols=["split", "label"])


def by_duckdb(images, root):
    duckdb.sql(f"copy images to '{root}' (format parquet, partition_by (split, label))")


@pytest.mark.parametrize("write_to", [by_pandas, by_duckdb])
def test_a_folder_by_partition_has_split_and_label_in_its_paths(tmp_path, write_to):
    """The names above the folder say nothing."""
    root = tmp_path / ".data/_raw/split=dev/label=200/digits.parquet"
    root.parent.mkdir(parents=True)
    write_to(table(other=None), root)
    archive = dataset(root).load()
    found = archive.images.take(np.argsort(archive.images.image_id))
    np.testing.assert_array_equal(found.label, LABELS)
    np.testing.assert_array_equal(found.split, SPLITS)
    np.testing.assert_array_equal(found.pixels, PIXELS)
    assert any(name.startswith("split=test/label=0/") for name in archive.manifest["files"])


def test_a_partition_of_images_without_a_label_has_none(tmp_path):
    by_duckdb(table(label=pa.array([None, *LABELS[1:].tolist()])), tmp_path / "duckdb")
    found = dataset(tmp_path / "duckdb").load().images
    assert found.label[found.image_id == 7].tolist() == [UNLABELLED]


def test_a_page_that_is_damaged_is_refused_with_the_name_of_the_file(tmp_path):
    path = tmp_path / "a.parquet"
    options = {"use_dictionary": False, "compression": "none", "write_page_checksum": True}
    pq.write_table(table(), path, **options)
    place = pq.ParquetFile(path).metadata.row_group(0).column(0)
    content = bytearray(path.read_bytes())
    content[place.data_page_offset + place.total_compressed_size - 7] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"a.parquet is no table .*; write it anew"):
        dataset(tmp_path).load()


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(784)])
def test_a_file_will_do_and_so_do_pixels_alone(tmp_path, kind):
    write(tmp_path, pixels=pa.array(TEXT, kind), image_id=None, label=None, split=None)
    images, manifest = vars(dataset(tmp_path / "a.parquet").load()).values()
    np.testing.assert_array_equal(images.pixels, PIXELS)
    np.testing.assert_array_equal(images.image_id, np.arange(100))
    assert images.label is None
    assert set(images.split) == {"train"}
    assert manifest["statement"] == "Data: mine, 100 images, in 1 Parquet file."
    assert list(manifest["files"]) == ["a.parquet"]


def test_an_image_without_a_label_is_unlabelled_also_as_pandas_writes_it(tmp_path):
    write(tmp_path, label=pa.array([None, *range(99)], pa.float64()))
    assert dataset(tmp_path).load().images.label.tolist() == [UNLABELLED, *range(99)]
    for nothing in (pa.nulls(100), pa.nulls(100, pa.int32())):
        write(tmp_path, label=nothing)
        assert dataset(tmp_path).load().images.label is None


def test_labels_that_are_no_numbers_from_0_to_254_are_names(tmp_path):
    (tmp_path / "label=three").mkdir()
    write(tmp_path, "label=three/a.parquet")  # the name of the folder comes before the column
    numbers = pa.array([-1, None] * 50)
    write(tmp_path, "b.parquet", image_id=pa.array(range(200, 300)), label=numbers)
    write(tmp_path, "c.parquet", image_id=pa.array(range(300, 400)), label=None)
    images = dataset(tmp_path).load().images
    assert images.class_names == ("-1", "three")
    assert images.label[[0, 1, 100, 200]].tolist() == [0, UNLABELLED, UNLABELLED, 1]


def test_what_is_no_source_is_refused_before_a_run(tmp_path):
    file = tmp_path / "a.parquet"
    with pytest.raises(DatasetError, match=f"mine was not found: .* at {tmp_path}, received none"):
        dataset(tmp_path).check()
    assert not dataset(tmp_path).exists()
    assert not dataset(tmp_path / "elsewhere").exists()
    file.write_text("nothing")
    with pytest.raises(DatasetError, match=r"a.parquet is no table of images .* a whole Parquet"):
        dataset(tmp_path).check()
    pq.write_table(table(pixels=None), file)
    with pytest.raises(DatasetError, match="received the columns image_id"):
        dataset(tmp_path).check()
    assert dataset(tmp_path).exists()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"rows": slice(0)}, "has no images: expected at least one row, received none in 1 files"),
        ({"pixels": pa.array([1] * 100)}, "a.parquet .* received .*int64"),
        ({"pixels": pa.array([*TEXT[:99], None])}, "a.parquet .* received 1 rows without `pixels`"),
        ({"image_id": pa.array([3, *range(99)])}, "once: expected 100 .* received 99 and 0 null"),
        ({"image_id": pa.array([None, *range(99)])}, "received 99 and 1 null"),
        ({"image_id": pa.array([2**63 + 5, *range(99)], pa.uint64())}, "received .*922337203685"),
        ({"label": pa.array([0.5] * 100)}, "a.parquet .* received .*0.5"),
        ({"split": pa.array(["dev"] * 100)}, "received the splits dev;"),
    ],
)
def test_what_is_no_table_of_images_is_refused(tmp_path, columns, message):
    write(tmp_path, **columns)
    with pytest.raises(DatasetError, match=message) as refusal:
        dataset(tmp_path).load()
    assert "\n" not in str(refusal.value)
