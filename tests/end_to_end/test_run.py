"""What a user finds after `kedro run`, and after pipelines that are run by name: few images."""

import json
import re

import pandas as pd
import pytest

from mnist_vae.data.origin import fingerprint
from mnist_vae.pipeline_registry import register_pipelines
from tests.conftest import run
from tests.end_to_end.conftest import give_new_images


@pytest.fixture(scope="module")
def data(finished_project):
    return finished_project / "data/test"


def test_every_stage_is_on_disk_and_nothing_unfinished(data, finished_catalog):
    for name in register_pipelines()["__default__"].all_outputs():
        assert finished_catalog.exists(name), name
    assert not list(data.rglob(".partial-*"))
    assert not (data / "06_models/training_backup.npz").exists()
    history = finished_catalog.load("training_history")
    assert history["epoch"].tolist() == [1, 2]
    assert finished_catalog.load("training_summary")["epochs"] == 2


def test_the_embeddings_cover_disjoint_splits_name_their_model_and_have_its_metrics_as_means(
    data, finished_catalog
):
    table = pd.read_parquet(data / "07_model_output/latent_embeddings.parquet")
    assert table["image_id"].is_unique
    assert table["split"].value_counts().to_dict() == {"train": 342, "test": 40, "validation": 18}
    images = pd.read_parquet(data / "02_intermediate/images.parquet").set_index("image_id")
    assert (images.loc[table["image_id"], "label"].to_numpy() == table["label"]).all()
    version = fingerprint(finished_catalog.load("encoder"), finished_catalog.load("decoder"))
    assert set(table["model_version"]) == {version}
    assert finished_catalog.load("run_manifest")["model_version"] == version
    metrics = json.loads((data / "08_reporting/metrics.json").read_text())["splits"]
    for split, rows in table.groupby("split"):
        assert rows["kl"].mean() == pytest.approx(metrics[split]["kl"], rel=1e-5)
        # The embeddings have one draw of z, the metrics the mean of several.
        expected = pytest.approx(metrics[split]["reconstruction"], rel=0.01)
        assert rows["reconstruction"].mean() == expected


def report_of(project):
    """The report on a model, and the pipelines that would add what was not made."""
    html = (project / "data/test/08_reporting/model_report.html").read_text(encoding="utf-8")
    found = re.search(r"<code>kedro run --pipelines ([\w,]+),model_report", html.split("<nav")[0])
    return html, found[1].split(",") if found else []


def test_it_ends_with_the_report_on_its_model(finished_project):
    html, absent = report_of(finished_project)
    assert "trained on the embedded sample, not on the full MNIST" in html.split("</header>")[0]
    assert absent == ["evaluation", "anomaly", "denoising"]
    assert '"n": 400' in html.replace("&#34;", '"')


@pytest.mark.slow
def test_what_the_other_pipelines_find_out_is_in_the_report_and_of_the_same_model(
    complete_project,
):
    html, absent = report_of(complete_project)
    assert absent == []
    assert "The parts of the loss" in html
    assert "The most and the least anomalous test images" in html
    assert "Noisy images restored" in html
    data = complete_project / "data/test"
    version = json.loads((data / "06_models/training_summary.json").read_text())["model_version"]
    card = (data / "08_reporting/model_card.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: mit\n")
    assert version in card
    scores = pd.read_parquet(data / "07_model_output/anomaly_scores.parquet")
    test = pd.read_parquet(data / "05_model_input/test_images.parquet", columns=["image_id"])
    assert scores["image_id"].tolist() == test["image_id"].tolist()
    noise = pd.read_parquet(data / "07_model_output/new_anomaly_scores.parquet")
    assert noise["is_anomaly"].tolist() == [True] * 5


def test_the_last_model_embeds_generates_and_has_its_report_again_until_its_data_change(copied):
    """Without another training, and the same bytes as before."""
    output = copied / "data/test/07_model_output"
    embeddings = output / "latent_embeddings.parquet"
    before, report = embeddings.read_bytes(), report_of(copied)
    embeddings.unlink()
    give_new_images(copied)
    run(copied, "generation", "embedding", "embedding_of_new_images", "model_report")
    assert len(list((output / "generated_images").glob("*.png"))) == 12
    assert embeddings.read_bytes() == before
    assert report_of(copied) == report
    assert len(pd.read_parquet(output / "new_embeddings.parquet")) == 5

    run(copied, "data", seed=7)  # other splits: what was trained on may now be in `test`
    with pytest.raises(ValueError, match="train images changed after the model was trained"):
        run(copied, "embedding")
    assert embeddings.read_bytes() == before


def test_the_graph_also_runs_far_from_the_defaults(project):
    model = {"latent_dim": 1, "reconstruction": "mse", "hidden_units": [32], "activation": "elu"}
    training = {"learning_rate_schedule": "cosine", "early_stopping_patience": None, "epochs": 1}
    run(
        project,
        seed=3,
        model=model,
        training={**training, "jit_compile": False},
        split={"max_images": 100},
        generation={"n_images": 1, "interpolation_pairs": 1, "reconstructions": 1},
    )
    data = project / "data/test"
    metrics = json.loads((data / "08_reporting/metrics.json").read_text())
    assert metrics["splits"]["test"]["entropy_floor"] is None
    table = pd.read_parquet(data / "07_model_output/latent_embeddings.parquet")
    z = [name for name in table.columns if name.startswith("z_")]
    assert z == ["z_mean_00", "z_log_var_00"]
