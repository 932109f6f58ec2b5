"""What a user finds after `kedro run`, in the environment `test`: the whole graph, few images."""

import json

import duckdb
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
from PIL import Image

from mnist_vae.data.fingerprints import fingerprint
from mnist_vae.data.idx import IdxDataset
from mnist_vae.pipeline_registry import register_pipelines
from tests.conftest import catalog_of, run


@pytest.fixture(scope="module")
def data(finished_project):
    return finished_project / "data/test"


def test_every_stage_is_on_disk_and_nothing_unfinished(data, finished_catalog):
    for name in register_pipelines()["__default__"].all_outputs():
        assert finished_catalog.exists(name), name
    assert not list(data.rglob(".partial-*"))
    assert not (data / "06_models/training_backup.npz").exists()


def test_the_manifest_says_that_the_model_is_one_of_the_sample(data):
    manifest = json.loads((data / "02_intermediate/data_manifest.json").read_text())
    assert manifest["source"] == "sample"
    assert "not the full MNIST" in manifest["statement"]
    metrics = json.loads((data / "08_reporting/metrics.json").read_text())
    assert metrics["data"] == f"Trained on 342 images. {manifest['statement']}"
    for figure in ("learning_curves", "latent_scatter"):
        assert "not the full MNIST" in (data / f"08_reporting/{figure}.json").read_text()


def test_the_splits_are_disjoint_and_the_embeddings_cover_them(data):
    table = pd.read_parquet(data / "07_model_output/latent_embeddings.parquet")
    assert table["image_id"].is_unique
    assert table["split"].value_counts().to_dict() == {"train": 342, "test": 40, "validation": 18}
    images = pd.read_parquet(data / "02_intermediate/images.parquet").set_index("image_id")
    assert (images.loc[table["image_id"], "label"].to_numpy() == table["label"]).all()


@pytest.mark.slow  # Polars is in another extra
def test_embeddings_are_read_by_arrow_duckdb_and_polars(data):
    polars = pytest.importorskip("polars", reason="the extra `all` is needed")
    path = str(data / "07_model_output/latent_embeddings.parquet")
    expected = pd.read_parquet(path)["z_mean_00"].to_numpy()
    by_duckdb = duckdb.sql(f"select z_mean_00 from '{path}'").fetchnumpy()["z_mean_00"]
    assert np.array_equal(ds.dataset(path).to_table()["z_mean_00"].to_numpy(), expected)
    assert np.array_equal(np.sort(by_duckdb), np.sort(expected))
    assert np.array_equal(polars.read_parquet(path)["z_mean_00"].to_numpy(), expected)


def test_the_embeddings_name_the_model_that_made_them(data, finished_catalog):
    table = pd.read_parquet(data / "07_model_output/latent_embeddings.parquet")
    encoder, decoder = finished_catalog.load("encoder"), finished_catalog.load("decoder")
    manifest = finished_catalog.load("run_manifest")
    assert set(table["model_version"]) == {fingerprint(encoder, decoder)}
    assert manifest["model_version"] == fingerprint(encoder, decoder)


def test_metrics_are_the_means_of_the_embeddings(data):
    table = pd.read_parquet(data / "07_model_output/latent_embeddings.parquet")
    metrics = json.loads((data / "08_reporting/metrics.json").read_text())["splits"]
    for split, rows in table.groupby("split"):
        assert rows["kl"].mean() == pytest.approx(metrics[split]["kl"], rel=1e-5)
        # The embeddings have one draw of z, the metrics the mean of several.
        assert rows["reconstruction"].mean() == pytest.approx(
            metrics[split]["reconstruction"], rel=0.01
        )


def test_the_history_has_a_row_an_epoch(finished_catalog):
    history = finished_catalog.load("training_history")
    assert history["epoch"].tolist() == [1, 2]
    assert history["loss"].tolist() == pytest.approx(
        (history["reconstruction"] + history["kl"]).tolist()
    )
    summary = finished_catalog.load("training_summary")
    assert summary["epochs"] == 2
    assert summary["duration_seconds"] > 0


def test_generated_png_files_are_the_generated_images(copied):
    run(copied, "generation")
    images = catalog_of(copied).load("generated_images")
    files = sorted((copied / "data/test/07_model_output/generated_images").glob("*.png"))
    assert len(files) == len(images) == 12
    assert np.array_equal(np.asarray(Image.open(files[3])), images.pictures[3])


def test_embedding_alone_uses_the_last_model_and_gives_the_same_bytes(copied):
    path = copied / "data/test/07_model_output/latent_embeddings.parquet"
    before = path.read_bytes()
    path.unlink()
    run(copied, "embedding")
    assert path.read_bytes() == before


def test_new_images_without_labels_are_embedded(copied):
    scans = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    IdxDataset(filepath=str(copied / "data/test/01_raw/new_images.idx3-ubyte.gz")).save(scans)
    run(copied, "embedding_of_new_images")
    table = pd.read_parquet(copied / "data/test/07_model_output/new_embeddings.parquet")
    assert len(table) == 5
    assert "label" not in table.columns


def test_a_model_of_the_sample_stays_one_when_other_data_are_ingested(copied):
    before = (copied / "data/test/07_model_output/latent_embeddings.parquet").read_bytes()
    run(copied, "data", **{"seed": 7})  # other splits: what was trained on may now be in `test`
    with pytest.raises(ValueError, match="train images changed after the model was trained"):
        run(copied, "embedding")
    assert (copied / "data/test/07_model_output/latent_embeddings.parquet").read_bytes() == before
    manifest = copied / "data/test/02_intermediate/data_manifest.json"
    manifest.write_text(manifest.read_text().replace("the embedded sample of", "the full"))
    run(copied, "reporting")
    figure = json.loads((copied / "data/test/08_reporting/learning_curves.json").read_text())
    said = figure["layout"]["annotations"][-1]["text"].replace("<br>", " ")
    assert "Trained on 342 images. Data: the embedded sample of 5,000 MNIST digits" in said


def test_encoder_and_decoder_of_two_runs_are_refused(copied):
    decoder = copied / "data/test/06_models/decoder.keras"
    earlier = decoder.read_bytes()
    run(copied, "training", training={"epochs": 1})
    decoder.write_bytes(earlier)  # as if the run had died between the two saves
    for pipeline in ("embedding", "generation"):
        with pytest.raises(ValueError, match="The decoder does not belong to the training summary"):
            run(copied, pipeline)


def test_the_graph_also_runs_far_from_the_defaults(project):
    run(
        project,
        seed=3,
        model={
            "latent_dim": 1,
            "reconstruction": "mse",
            "hidden_units": [32],
            "activation": "elu",
        },
        training={
            "epochs": 1,
            "learning_rate_schedule": "cosine",
            "early_stopping_patience": None,
            "jit_compile": False,
        },
        split={"max_images": 100},
        generation={"n_images": 1, "interpolation_pairs": 1, "reconstructions": 1},
        evaluation={"z_samples": 2},
    )
    data = project / "data/test"
    metrics = json.loads((data / "08_reporting/metrics.json").read_text())
    assert metrics["splits"]["test"]["entropy_floor"] is None
    assert metrics["splits"]["test"]["excess_over_floor"] is None
    table = pd.read_parquet(data / "07_model_output/latent_embeddings.parquet")
    assert [name for name in table.columns if name.startswith("z_")] == [
        "z_mean_00",
        "z_log_var_00",
    ]
    # The reconstruction term is the model's, whatever the parameters say today.
    before = (data / "07_model_output/latent_embeddings.parquet").read_bytes()
    text = "model:\n  reconstruction: binary_crossentropy\n"
    (project / "conf/test/parameters_model.yml").write_text(text)
    run(project, "embedding", seed=3)
    assert (data / "07_model_output/latent_embeddings.parquet").read_bytes() == before
