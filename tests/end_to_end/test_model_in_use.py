"""Every consumer uses one model: the last trained one, or the release in service."""

import json

import click
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import run
from tests.end_to_end.conftest import give_new_images
from tests.releases import promote_last_trained, releases_of, roll_back, use
from tests.retrainings import damage, retrain

pytestmark = pytest.mark.slow  # they train

OF_A_RELEASE = ("anomaly", "denoising", "embedding_of_new_images", "evaluation", "generation")
CONSUMERS = (*OF_A_RELEASE, "embedding")  # whose output a release has
QUICK = {"epochs": 1, "jit_compile": False}
OF_ONE_NOISE = {"denoising": {"salt_and_pepper": [], "masking": [], "blur": []}}


def last_trained(project):
    summary = project / "data/test/06_models/training_summary.json"
    return json.loads(summary.read_text())["model_version"]


def named_by_outputs(project, pipeline):
    """The model version and the release that every output of the pipeline names."""
    data = project / "data/test"
    output = {
        "anomaly": data / "07_model_output/anomaly_scores.parquet",
        "denoising": data / "08_reporting/denoising_scores.parquet",
        "embedding": data / "07_model_output/latent_embeddings.parquet",
        "embedding_of_new_images": data / "07_model_output/new_embeddings.parquet",
        "evaluation": data / "08_reporting/metrics.json",
        "generation": data / "07_model_output/generated_images.parquet",
    }[pipeline]
    if output.suffix == ".json":
        metadata = json.loads(output.read_text())
    elif pipeline == "denoising":
        metadata = pd.read_parquet(output).iloc[0].dropna()
    else:
        pairs = pq.read_schema(output).metadata.items()
        metadata = {key.decode(): value.decode() for key, value in pairs}
    named = (metadata["model_version"], metadata.get("release"))
    sheet = {
        "anomaly": "anomaly_sheet",
        "denoising": "denoising_sheet",
        "generation": "interpolations",
    }.get(pipeline)
    if sheet is not None:
        with Image.open(data / f"08_reporting/{sheet}.png") as picture:
            assert named == (picture.info["model_version"], picture.info.get("release"))
    if pipeline.startswith("embedding"):
        assert set(pd.read_parquet(output)["model_version"]) == {named[0]}
    return named


def test_every_consumer_uses_the_model_that_its_environment_names_also_after_a_rollback(copied):
    give_new_images(copied)
    first = promote_last_trained(copied)
    for seed in (7, 8):
        run(copied, "training", seed=seed, training=QUICK)
        if seed == 7:
            promote_last_trained(copied)
    roll_back(copied, first.name)
    run(copied, *CONSUMERS, **OF_ONE_NOISE)
    for pipeline in CONSUMERS:
        assert named_by_outputs(copied, pipeline) == (last_trained(copied), None)
    use(copied, "champion")
    # Another configuration does not take the champion out of service.
    (copied / "conf/test/parameters_model.yml").write_text("model:\n  latent_dim: 5\n")
    run(copied, *OF_A_RELEASE, "model_report", **OF_ONE_NOISE)
    release = releases_of(copied).load()
    release.check()
    assert release.name == first.name
    version = release.manifest["model_version"]
    assert version != last_trained(copied)
    for pipeline in OF_A_RELEASE:
        assert named_by_outputs(copied, pipeline) == (version, release.name)
    html = (copied / "data/test/08_reporting/model_report.html").read_text(encoding="utf-8")
    assert f"Report on release {release.name}</h1>" in html
    assert "Noisy images restored" in html
    assert release.name in (copied / "data/test/08_reporting/model_card.md").read_text()


def test_a_machine_that_only_retrains_has_a_model_for_every_consumer(served_copy):
    use(served_copy, "champion")
    line = retrain(served_copy, **{"training.epochs": 3})
    assert line["outcome"] == "promoted", line
    give_new_images(served_copy)
    run(served_copy, *OF_A_RELEASE, "reporting")
    release = releases_of(served_copy).load()
    release.check()
    for pipeline in OF_A_RELEASE:
        assert named_by_outputs(served_copy, pipeline) == (line["champion"], release.name)
    # On the images of the retraining: there was no other training.
    reporting = served_copy / "data/test/08_reporting"
    metrics = json.loads((reporting / "metrics.json").read_text())
    assert metrics.pop("release") == release.name
    assert metrics == release.load("metrics.json")
    for figure in ("learning_curves", "latent_scatter"):
        drawn = json.loads((reporting / f"{figure}.json").read_text())
        statement = drawn["layout"]["annotations"][-1]["text"].replace("<br>", " ")
        assert statement.endswith(f"Release {release.name}.")
    assert not (served_copy / "data/test/06_models/encoder.keras").exists()
    line = retrain(served_copy, "roll-back")
    run(served_copy, "generation")
    assert named_by_outputs(served_copy, "generation")[0] == line["champion"]
    damage(served_copy, "test_images.parquet")
    with pytest.raises(click.ClickException, match=r"test_images\.parquet is damaged"):
        run(served_copy, "generation")
    assert "was damaged" in retrain(served_copy, **{"training.epochs": 2})["repaired"]
    run(served_copy, "generation")
    assert named_by_outputs(served_copy, "generation")[1] == releases_of(served_copy).load().name
