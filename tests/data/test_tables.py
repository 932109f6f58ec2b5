"""What a table of embeddings must satisfy before it is saved, and that nothing else is."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnist_vae.data.tables import (
    EmbeddingContract,
    TableDataset,
    embedding_schema,
    mapped_table,
    with_anomalies,
)


def rows(schema, first_id=0, n=4, **changes):
    columns = {
        "image_id": np.arange(first_id, first_id + n),
        "split": ["test"] * n,
        "label": np.zeros(n, np.uint8),
        "model_version": ["m1"] * n,
        **changes,
    }
    return pa.record_batch(
        [pa.array(columns.get(f.name, np.ones(n, "float32")), f.type) for f in schema],
        schema=schema,
    )


def table_of(*batches, labelled=True, anomalies=False):
    schema = embedding_schema(2, 8, labelled=labelled, model_version="m1")
    schema = with_anomalies(schema) if anomalies else schema
    return mapped_table((rows(schema, **batch) for batch in batches), schema)


def save(tmp_path, table):
    dataset = TableDataset(filepath=str(tmp_path / "z.parquet"))
    dataset.save(EmbeddingContract().validate(table))
    return dataset


@pytest.mark.parametrize("labelled", [True, False])
def test_a_good_table_is_saved_row_for_row(tmp_path, labelled):
    dataset = save(tmp_path, table_of({}, {"first_id": 4}, labelled=labelled))
    table = dataset.load()
    assert table["image_id"].tolist() == list(range(8))
    assert ("label" in table.columns) == labelled
    assert len(dataset.preview(nrows=3)["data"]) == 3


def test_a_table_may_say_which_images_are_anomalies_and_says_so_of_all(tmp_path):
    table = save(tmp_path, table_of({}, {"first_id": 4}, anomalies=True)).load()
    assert table.columns[-2:].tolist() == ["anomaly_score", "is_anomaly"]
    assert table["is_anomaly"].dtype == bool
    for bad in ({"anomaly_score": np.full(4, np.nan, "float32")}, {"is_anomaly": [None] * 4}):
        with pytest.raises(ValueError, match=f"4 null, NaN .* `{next(iter(bad))}`"):
            save(tmp_path, table_of({}, {"first_id": 4, **bad}, anomalies=True))


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (
            [{}, {"first_id": 4, "kl": np.array([1, np.nan, 1, 1], "float32")}],
            "1 null, NaN .* `kl`",
        ),
        (
            [{}, {"first_id": 4, "z_mean_01": np.full(4, np.inf, "float32")}],
            "4 null, NaN .* `z_mean_01`",
        ),
        ([{}, {"first_id": 4, "split": ["a", None, "a", "a"]}], "1 null, NaN .* `split`"),
        ([{}, {"first_id": 4, "reconstruction": [1.0, None, float("nan"), 1.0]}], "2 null, NaN"),
        ([{}, {"first_id": 3}], "expected 8 rows, received 8 with 7 different"),
        ([{}], "expected 8 rows, received 4 with"),
        ([{}, {"first_id": 4}, {"first_id": 8}], "expected 8 rows, received 12 with"),
        ([{}, {"first_id": 4, "model_version": ["m1", "m1", "m2", "m2"]}], "expected 'm1' alone"),
    ],
)
def test_a_bad_table_is_refused(batches, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingContract().validate(table_of(*batches))


def test_the_catalog_applies_the_contract(finished_catalog):
    specs = finished_catalog.validator_specs
    for name in ("latent_embeddings", "new_embeddings"):
        assert specs[name].class_path == "mnist_vae.data.tables.EmbeddingContract"
        assert "save" in specs[name].on


def test_a_table_takes_no_memory_and_each_of_its_chunks_is_a_row_group(tmp_path):
    before = pa.total_allocated_bytes()
    table = table_of({}, {"first_id": 4})
    assert pa.total_allocated_bytes() == before
    save(tmp_path, table)
    assert pq.read_metadata(tmp_path / "z.parquet").num_row_groups == 2
