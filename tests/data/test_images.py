"""Image sets, in memory and at rest, and the tables of their embeddings."""

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnist_vae.data import images as in_memory
from mnist_vae.data import tables as at_rest
from mnist_vae.data.images import (
    UNLABELLED,
    ImageSet,
    concatenate,
    draw_rows,
    embedding_names,
    number_classes,
    one_split,
)
from mnist_vae.data.tables import (
    EmbeddingContract,
    ImagesDataset,
    TableDataset,
    mapped_table,
    rows_of,
    table_schema,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "images.parquet"


def scans(n=30, label=None, seed=0, shape=(28, 28), **columns):
    random = np.random.default_rng(seed)
    return ImageSet(
        pixels=random.integers(0, 256, (n, math.prod(shape))).astype(np.uint8),
        image_id=random.permutation(n).astype(np.int64),
        split=np.resize(["train", "test"], n),
        label=None if label is None else np.array(label, np.uint8),
        shape=shape,
        **columns,
    )


@pytest.fixture(params=[in_memory.AT_ONCE, 7], ids=["in memory", "more than at once"])
def at_once(request, monkeypatch):
    """Whether a selection is in memory, or in a temporary file."""
    monkeypatch.setattr(in_memory, "AT_ONCE", request.param)
    return request.param


def test_pixels_of_another_form_and_columns_of_another_length_are_refused():
    for pixels in (np.zeros((2, 784)), np.zeros((2, 1024), np.uint8)):
        with pytest.raises(ValueError, match=r"expected uint8 \[n, 784\], received .* \[2, "):
            ImageSet(pixels, np.arange(2), np.full(2, "train"))
    with pytest.raises(ValueError, match=r"label has the wrong length: expected 30.*received 3"):
        scans(30, [0, 1, 2])


def test_a_network_takes_grey_values_in_0_1_and_not_too_many_at_once(monkeypatch):
    images = scans(100)
    assert images.model_input().dtype == np.float32
    np.testing.assert_array_equal(images.model_input(), images.pixels / np.float32(255))
    monkeypatch.setattr(in_memory, "AT_ONCE", 99)
    with pytest.raises(ValueError, match=r"pixels of 100 .* at once: expected 99 at most; set a"):
        images.model_input()


def test_the_name_of_images_follows_from_ids_and_pixels():
    images = scans()
    same = ImageSet(images.pixels.copy(), images.image_id, np.full(30, "other"))
    assert images.digest() == same.digest()
    assert images.digest() != images.take(np.arange(30)[::-1]).digest()
    assert images.digest() != scans(seed=1).digest()


@pytest.mark.parametrize(
    "rows",
    [slice(3, 90), np.arange(0, 100, 3), np.array([70, 3, 3, 99, 0] * 5), np.array([], int)],
    ids=["slice", "every third", "in any order", "none"],
)
def test_a_selection_has_its_rows_of_every_column(at_once, monkeypatch, rows):
    monkeypatch.setattr(in_memory, "_BLOCK", 7)
    random = np.random.default_rng(1)
    images = scans(100, random.integers(0, 9, 100), z=random.random((100, 2)))
    taken = images.take(rows)
    for name in ("pixels", "image_id", "split", "label", "z"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(images, name)[rows])
    assert images.take(rows, "new").split.tolist() == ["new"] * len(taken)
    is_mapped = not isinstance(rows, slice) and len(taken) > at_once
    assert isinstance(taken.pixels, np.memmap) == is_mapped


@pytest.mark.parametrize(
    ("names", "labels", "class_names"),
    [
        (["7", None, "254"], [7, UNLABELLED, 254], None),
        (["10", "9", "é", "a", None], [1, 0, 3, 2, UNLABELLED], ("9", "10", "a", "é")),
        (["255"], [0], ("255",)),
        (["007"], [0], ("007",)),
    ],
)
def test_classes_are_their_numbers_or_names_in_order(names, labels, class_names):
    label, found = number_classes(names)
    assert (label.tolist(), found) == (labels, class_names)


def test_no_class_is_no_label_and_more_classes_than_labels_are_refused():
    assert number_classes([None, None]) == (None, None)
    with pytest.raises(ValueError, match=r"at most 255, received 256, such as a0, a1, a10 and 253"):
        number_classes([f"a{n}" for n in range(256)])


def test_images_put_together_have_the_classes_of_the_first_and_no_other_is_let_in(at_once):
    first = scans(3, [2, 1, 0], class_names=("1", "a", "b"), file=np.array([*"xyz"], object))
    named = scans(2, [0, UNLABELLED], class_names=("b",))
    numbered = scans(2, [1, 1])
    parts = [scans(1), first, named, numbered]
    whole = concatenate(parts)
    np.testing.assert_array_equal(whole.pixels, np.concatenate([part.pixels for part in parts]))
    assert whole.file.tolist() == [None, "x", "y", "z", *[None] * 4]
    assert whole.label.tolist() == [UNLABELLED, 2, 1, 0, 2, UNLABELLED, 0, 0]
    assert concatenate([scans(2), scans(1)]).label is None
    assert whole.class_names == whole.take(slice(3)).class_names == ("1", "a", "b")
    assert named.in_classes(("b",)).label.tolist() == [0, UNLABELLED]
    with pytest.raises(ValueError, match="not in use: expected 1, a, b, received 3; correct"):
        concatenate([first, scans(1, [3])])
    with pytest.raises(ValueError, match="expected numbers from 0 to 254, received b;"):
        concatenate([numbered, named])


def test_a_draw_keeps_the_share_of_every_class_and_depends_on_its_seed_alone():
    labels = np.repeat(np.arange(4, dtype=np.uint8), (100, 200, 300, 400))
    rows = np.arange(1000)
    drawn = draw_rows(rows, labels, 0.1, 7)
    assert np.bincount(labels[drawn]).tolist() == [10, 20, 30, 40]
    assert np.array_equal(drawn, draw_rows(rows, labels, 0.1, 7))
    assert not np.array_equal(drawn, draw_rows(rows, labels, 0.1, 8))


# At rest


def assert_equal(actual, expected):
    for name in ("pixels", "image_id", "split", "label", "z", "file"):
        a, b = getattr(actual, name), getattr(expected, name)
        assert (a is None and b is None) or np.array_equal(a, b), name
    for name in ("origin", "class_names", "shape"):
        assert getattr(actual, name) == getattr(expected, name)


SETS = {
    "unlabelled": scans(),
    "labelled": scans(label=[UNLABELLED, *range(29)]),
    "named": scans(label=[0] * 30, class_names=("é", "b"), shape=(3, 4)),
    "pictures": scans(file=np.array(["é/1.png"] * 30, object)),
    "generated": scans(
        z=np.random.default_rng(1).random((30, 3), np.float32), origin={"drawn_from": "z"}
    ),
    "of one split": dataclasses.replace(scans(), split=one_split("train", 30)),
    "none": scans(0),
}


@pytest.mark.parametrize(
    ("place", "memory_images"),
    [("{}", None), ("{}", 10), ("memory:/{}", 10)],
    ids=["in memory", "mapped", "of another file system"],
)
@pytest.mark.parametrize("images", SETS.values(), ids=SETS)
def test_images_come_back_as_they_were(path, monkeypatch, place, memory_images, images):
    monkeypatch.setattr(at_rest, "_ROW_GROUP", 7)
    dataset = ImagesDataset(filepath=place.format(path), memory_images=memory_images)
    dataset.save(images)
    for _ in range(2):
        loaded = dataset.load()
        assert_equal(loaded, images)
    is_mapped = memory_images is not None and len(images) > memory_images
    assert isinstance(loaded.pixels, np.memmap) == is_mapped


def test_at_rest_the_pixels_are_784_bytes_with_their_shape_in_the_schema_of_one_file(path):
    dataset = ImagesDataset(filepath=str(path), memory_images=0)
    dataset.save(scans(label=[0] * 30, z=np.zeros((30, 2))))
    schema = pq.read_schema(path)
    assert str(schema.field("pixels").type) == "fixed_size_binary[784]"
    assert b'"shape": [28, 28]' in schema.metadata[b"mnist_vae.pixels"]
    assert schema.names == ["image_id", "split", "label", "z_00", "z_01", "pixels"]
    dataset.load()
    assert list(path.parent.iterdir()) == [path]


# Embeddings


def embeddings(n=8, labelled=True, **columns):
    """The embeddings of `n` images where eight are expected, in chunks of four."""
    images = scans(n, [0] * n if labelled else None)
    names = [*embedding_names(2), "anomaly_score"]
    known = {"n_images": 8, "model_version": "m1"}
    schema = table_schema([*names, "is_anomaly", "model_version"], [images], known)
    columns = {"is_anomaly": [True] * n, **dict.fromkeys(names, np.ones(n)), **columns}
    rows = rows_of(images, schema, columns)
    return mapped_table((rows.slice(start, 4) for start in range(0, n, 4)), schema)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_good_table_takes_no_memory_and_is_saved_row_for_row(path, labelled):
    before = pa.total_allocated_bytes()
    table = EmbeddingContract().validate(embeddings(labelled=labelled))
    assert pa.total_allocated_bytes() == before
    dataset = TableDataset(filepath=str(path))
    dataset.save(table)
    assert pq.read_metadata(path).num_row_groups == 2
    loaded = dataset.load()
    assert loaded["image_id"].tolist() == scans(8).image_id.tolist()
    assert ("label" in loaded.columns) == labelled
    assert loaded["is_anomaly"].dtype == bool
    assert len(dataset.preview(nrows=3)["data"]) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kl": [*[1.0] * 7, math.nan]}, "1 null, NaN .* `kl`"),
        ({"z_mean_01": [math.inf] * 8}, "8 null, NaN .* `z_mean_01`"),
        ({"reconstruction": [*[1.0] * 6, None, math.nan]}, "2 null, NaN .* `reconstruction`"),
        ({"split": [*["a"] * 7, None]}, "1 null, NaN .* `split`"),
        ({"image_id": [*range(7), 3]}, "expected 8 rows, received 8 with 7 different"),
        ({"n": 4}, "expected 8 rows, received 4 with"),
    ],
)
def test_a_bad_table_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingContract().validate(embeddings(**given))


def test_the_catalog_applies_the_contract(finished_catalog):
    specs = finished_catalog.validator_specs
    for name in ("latent_embeddings", "new_embeddings"):
        assert specs[name].class_path == "mnist_vae.data.tables.EmbeddingContract"
        assert "save" in specs[name].on
