"""Images in Parquet, of a user's own: what is read, and what is refused before any work."""

import json

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from kedro.io.core import DatasetError

from mnist_vae.data.images import UNLABELLED
from mnist_vae.data.parquet_archive import ParquetArchiveDataset
from mnist_vae.data.tables import ImagesDataset
from mnist_vae.pipelines.data.nodes import ingest_images

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (100, 784), np.uint8)
TEXT = [row.tobytes() for row in PIXELS]


def table(rows=slice(None), **columns):
    """Return a table of some of the images; a column of None is left out."""
    count = len(TEXT[rows])
    values = {
        "pixels": pa.array(TEXT[rows], pa.binary(784)),
        "image_id": pa.array(np.arange(100)[rows] + 7),
        "label": pa.array((np.arange(100) % 10)[rows], pa.int64()),
        "split": pa.array(
            np.where(np.arange(100) % 4, "train", "test")[rows].tolist(), pa.string()
        ),
        "other": pa.array(["x"] * count, pa.string()),
        **columns,
    }
    return pa.table({name: value for name, value in values.items() if value is not None})


def dataset(folder):
    return ParquetArchiveDataset(path=str(folder), name="mine")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def write(folder, name="a.parquet", **columns):
    pq.write_table(table(**columns), folder / name, row_group_size=30)


def test_a_folder_of_files_is_read_in_the_order_of_their_names(folder):
    write(folder, "b.parquet", rows=slice(60, 100))
    write(folder, "a.parquet", rows=slice(60))
    (folder / "_SUCCESS").touch()
    (folder / "_part.parquet").write_text("nothing")
    (folder / "notes.txt").write_text("nothing")
    images, manifest = ingest_images(dataset(folder).load())
    np.testing.assert_array_equal(images.pixels, PIXELS)
    np.testing.assert_array_equal(images.image_id, np.arange(100) + 7)
    np.testing.assert_array_equal(images.label, np.arange(100) % 10)
    np.testing.assert_array_equal(images.split, np.where(np.arange(100) % 4, "train", "test"))
    assert manifest["statement"] == (
        "Data: mine, 75 training and 25 test images, in 2 Parquet files."
    )
    assert (manifest["n_train"], manifest["n_test"], manifest["source"]) == (75, 25, "parquet")
    assert {name: file["items"] for name, file in manifest["files"].items()} == {
        "a.parquet": 60,
        "b.parquet": 40,
    }
    json.dumps(manifest)


@pytest.mark.parametrize("both", [False, True], ids=["in the path alone", "in the file too"])
def test_a_folder_by_partition_has_split_and_label_in_its_paths(tmp_path, both):
    images = table(label=pa.array(np.arange(100) % 10), other=None)
    root = tmp_path / ".data/_raw/split=dev/label=200/digits.parquet"
    for split in ("train", "test"):
        for label in range(10):
            chosen = pc.and_(pc.equal(images["split"], split), pc.equal(images["label"], label))
            folder = root / f"split={split}" / f"label={label}"
            folder.mkdir(parents=True)
            rows = images.filter(chosen)
            if not both:
                rows = rows.drop_columns(["split", "label"])
            if len(rows):
                pq.write_table(rows, folder / "part-0.parquet")
    archive = dataset(root).load()
    found = archive.images.take(np.argsort(archive.images.image_id))
    np.testing.assert_array_equal(found.label, np.arange(100) % 10)
    np.testing.assert_array_equal(found.split, np.where(np.arange(100) % 4, "train", "test"))
    np.testing.assert_array_equal(found.pixels, PIXELS)
    assert (archive.manifest["n_train"], archive.manifest["n_test"]) == (75, 25)
    assert "split=test/label=0/part-0.parquet" in archive.manifest["files"]


def test_what_pandas_and_duckdb_write_by_partition_is_read(tmp_path):
    images = table(label=pa.array([None, *(np.arange(1, 100) % 10).tolist()], pa.int64()))
    images.to_pandas().astype({"label": "Int64"}).to_parquet(
        tmp_path / "pandas", partition_cols=["split", "label"]
    )
    duckdb.sql(f"copy images to '{tmp_path}/duckdb' (format parquet, partition_by (split, label))")
    for folder in ("pandas", "duckdb"):
        found = dataset(tmp_path / folder).load().images
        expected = np.array([UNLABELLED, *(np.arange(1, 100) % 10)])
        np.testing.assert_array_equal(found.label, expected[found.image_id - 7], folder)
        expected = np.where(np.arange(100) % 4, "train", "test")
        np.testing.assert_array_equal(found.split, expected[found.image_id - 7], folder)


def test_what_a_writer_keeps_for_itself_is_not_data(folder):
    write(folder)
    for place in ("_delta_log", ".ipynb_checkpoints", "split=train/.spark-staging-1/split=train"):
        (folder / place).mkdir(parents=True)
        write(folder, f"{place}/part.parquet", image_id=None)
    archive = dataset(folder).load()
    assert list(archive.manifest["files"]) == ["a.parquet"]
    assert len(archive.images) == 100


@pytest.mark.parametrize("column", ["pixels", "label"])
@pytest.mark.parametrize(
    "options",
    [{"write_page_checksum": True, "compression": "none"}, {"compression": "gzip"}],
    ids=["checksum", "compressed"],
)
def test_a_page_that_is_damaged_is_refused_with_the_name_of_the_file(folder, column, options):
    images = table(other=None)
    path = folder / "a.parquet"
    pq.write_table(images, path, use_dictionary=False, **options)
    place = pq.ParquetFile(path).metadata.row_group(0).column(images.schema.get_field_index(column))
    content = bytearray(path.read_bytes())
    content[place.data_page_offset + place.total_compressed_size - 7] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"a.parquet is no table .*; write it anew"):
        dataset(folder).load()


def test_a_file_will_do_and_so_do_pixels_alone(folder):
    write(folder, image_id=None, label=None, split=None)
    archive = dataset(folder / "a.parquet").load()
    images = archive.images
    np.testing.assert_array_equal(images.image_id, np.arange(100))
    assert images.label is None
    assert set(images.split) == {"train"}
    assert archive.manifest["statement"] == "Data: mine, 100 images, in 1 Parquet file."
    assert list(archive.manifest["files"]) == ["a.parquet"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_bytes_of_any_length_are_read_where_they_are_784(folder, kind):
    write(folder, pixels=pa.array(TEXT, kind))
    np.testing.assert_array_equal(dataset(folder).load().images.pixels, PIXELS)


def test_an_image_without_a_label_is_unlabelled_and_all_of_them_are_without_labels(folder):
    write(folder, label=pa.array([None, *range(99)], pa.int32()))
    assert dataset(folder).load().images.label.tolist() == [UNLABELLED, *range(99)]
    write(folder, label=pa.array([None] * 100, pa.int32()))
    assert dataset(folder).load().images.label is None
    write(folder, label=pa.nulls(100))
    assert dataset(folder).load().images.label is None


@pytest.mark.parametrize("what", ["missing", "empty folder", "no Parquet", "no pixels"])
def test_what_is_no_source_is_refused_before_a_run(folder, what):
    expected = "mine was not found: expected a Parquet file, or a folder of some, at .*raw"
    source = folder
    if what == "missing":
        source = folder / "elsewhere"
        expected = "at .*elsewhere, received none"
    elif what == "no Parquet":
        (folder / "a.parquet").write_text("nothing")
        expected = "a.parquet is no table of images that can be read: expected a whole Parquet file"
    elif what == "no pixels":
        write(folder, pixels=None)
        expected = "a.parquet .* received the columns image_id"
    with pytest.raises(DatasetError, match=expected) as refusal:
        dataset(source).check()
    assert "\n" not in str(refusal.value)
    assert dataset(source).exists() == (what in ("no Parquet", "no pixels"))


def strings(*values):
    return pa.array(values + ("train",) * (100 - len(values)))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"rows": slice(0)}, "has no images: expected at least one row, received none in 1 files"),
        ({"pixels": pa.array([1] * 100)}, "a.parquet .* received .*int64"),
        ({"pixels": pa.array([*TEXT[:99], None])}, "a.parquet .* received 1 rows without `pixels`"),
        ({"pixels": pa.array([*TEXT[:99], b"x"])}, "a.parquet .* received .*binary"),
        ({"image_id": pa.array(["x"] * 100)}, "a.parquet .* received .*'x'"),
        (
            {"image_id": pa.array([3, *range(99)])},
            "every image once: expected 100 different `image_id`, received 99 and 0 null",
        ),
        ({"image_id": pa.array([None, *range(99)])}, "received 99 and 1 null"),
        (
            {"image_id": pa.array([2**63 + 5, *range(99)], pa.uint64())},
            "a.parquet .* received .*9223372036854775813",
        ),
        ({"label": pa.array([0.5] * 100)}, "a.parquet .* received .*0.5"),
        ({"split": strings("dev")}, "received the splits dev;"),
        ({"split": strings(None)}, "received the splits None;"),
        ({"split": strings("a", "b", "c", "d")}, "received the splits a, b, c;"),
    ],
)
def test_what_is_no_table_of_images_is_refused_and_nothing_half_ingested(
    folder, tmp_path, columns, message
):
    write(folder, **columns)
    target = tmp_path / "out" / "images.parquet"
    with pytest.raises(DatasetError, match=message) as refusal:
        ImagesDataset(filepath=str(target)).save(dataset(folder).load().images)
    assert "\n" not in str(refusal.value)
    assert not target.parent.exists()


def test_images_of_a_file_without_labels_are_unlabelled(folder):
    write(folder, "a.parquet", rows=slice(50), label=pa.array(np.arange(50) % 10, pa.uint8()))
    write(folder, "b.parquet", rows=slice(50, 100), label=None)
    label = dataset(folder).load().images.label
    assert label.tolist() == [*(np.arange(50) % 10), *[UNLABELLED] * 50]


def test_labels_that_are_no_numbers_from_0_to_254_are_names(folder):
    write(folder, label=None)
    (folder / "label=three").mkdir()
    (folder / "a.parquet").rename(folder / "label=three/a.parquet")
    numbers = pa.array([-1, None] * 50)
    write(folder, "b.parquet", image_id=pa.array(range(200, 300)), label=numbers)
    images = dataset(folder).load().images
    assert images.class_names == ("-1", "three")
    assert images.label[[0, 1, 100]].tolist() == [0, UNLABELLED, 1]


def test_a_column_that_is_there_twice_is_refused(folder):
    twice = table().append_column("label", pa.array(np.zeros(100, int)))
    pq.write_table(twice, folder / "a.parquet")
    with pytest.raises(DatasetError, match=r"a.parquet .* received .*label.* 2 times"):
        dataset(folder).load()
