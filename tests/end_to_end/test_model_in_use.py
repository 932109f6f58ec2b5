"""Every consumer uses one model: the last trained one, or the release in service."""

import functools
import json
import shutil

import click
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mnist_vae.data.idx import IdxDataset
from mnist_vae.pipelines.generation import nodes
from tests.conftest import run
from tests.releases import (
    promote_last_trained,
    releases_of,
    roll_back,
    use,
)
from tests.retrainings import damage, retrain

pytestmark = pytest.mark.slow  # they train, some in processes of their own

OF_A_RELEASE = ("anomaly", "denoising", "embedding_of_new_images", "evaluation", "generation")
CONSUMERS = (*OF_A_RELEASE, "embedding")  # whose output a release has
QUICK = {"epochs": 1, "jit_compile": False}
OF_ONE_NOISE = {"denoising": {"salt_and_pepper": [], "masking": [], "blur": []}}


def give_new_images(project):
    scans = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    IdxDataset(filepath=str(project / "data/test/01_raw/new_images.idx3-ubyte.gz")).save(scans)


@pytest.fixture(scope="module")
def rolled_back(finished_project, tmp_path_factory):
    """A project whose first of two releases is in service, and whose last training is neither."""
    project = shutil.copytree(finished_project, tmp_path_factory.mktemp("rolled_back") / "project")
    give_new_images(project)
    first = promote_last_trained(project)
    for seed in (7, 8):
        run(project, "training", seed=seed, training=QUICK)
        if seed == 7:
            promote_last_trained(project)
    roll_back(project, first.name)
    return project


@pytest.fixture
def project(rolled_back, tmp_path):
    return shutil.copytree(rolled_back, tmp_path / "project", symlinks=True)


def last_trained(project):
    summary = project / "data/test/06_models/training_summary.json"
    return json.loads(summary.read_text())["model_version"]


def said_by_outputs(project, pipeline):
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
    told = (metadata["model_version"], metadata.get("release"))
    sheet = {
        "anomaly": "anomaly_sheet",
        "denoising": "denoising_sheet",
        "generation": "interpolations",
    }.get(pipeline)
    if sheet is not None:
        with Image.open(data / f"08_reporting/{sheet}.png") as picture:
            assert told == (picture.info["model_version"], picture.info.get("release"))
    if pipeline.startswith("embedding"):
        assert set(pd.read_parquet(output)["model_version"]) == {told[0]}
    return told


@pytest.mark.parametrize("pipeline", CONSUMERS)
def test_a_consumer_uses_the_model_that_its_environment_names(project, pipeline):
    params = OF_ONE_NOISE if pipeline == "denoising" else {}
    run(project, pipeline, **params)
    assert said_by_outputs(project, pipeline) == (last_trained(project), None)
    if pipeline in OF_A_RELEASE:
        use(project, "champion")
        run(project, pipeline, **params)
        release = releases_of(project).load()
        release.check()
        assert release.name.startswith("000001-")
        version = release.manifest["model_version"]
        assert version != last_trained(project)
        assert said_by_outputs(project, pipeline) == (version, release.name)


def test_a_promotion_between_two_nodes_changes_nothing_for_the_run(project, monkeypatch):
    use(project, "champion")
    before = releases_of(project).load()
    statements = []

    def and_then_roll_back(draw):
        @functools.wraps(draw)
        def node(*arguments):
            if releases_of(project).load().name == before.name:
                roll_back(project, second)
            return draw(*arguments)

        return node

    (second,) = (path.name for path in before.folder.parent.glob("000002-*"))
    sheet = nodes.sheet

    def noted(pixels, captions, **layout):
        statements.append(captions.statement)
        return sheet(pixels, captions, **layout)

    monkeypatch.setattr(nodes, "sheet", noted)
    monkeypatch.setattr(nodes, "draw_interpolations", and_then_roll_back(nodes.draw_interpolations))
    run(project, "generation")
    assert releases_of(project).load().name != before.name
    told = (before.manifest["model_version"], before.name)
    assert said_by_outputs(project, "generation") == told
    with Image.open(project / "data/test/08_reporting/latent_arithmetic.png") as picture:
        assert picture.info["release"] == before.name
    assert len(statements) == 4
    assert all(f"Release {before.name}." in statement for statement in statements)


@pytest.mark.parametrize("model", ["last_trained", "champion"])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"latent_dim": 7}, "expected 2, received 7"),
        ({"hidden_units": [256, 512]}, r"expected \[512, 256\], received \[256, 512\]"),
        ({"activation": "tanh"}, "expected relu, received tanh"),
        ({"reconstruction": "mse"}, "expected binary_crossentropy, received mse"),
        ({"decoder_initialization": "glorot"}, "expected none, as only a training reads it"),
    ],
)
def test_a_parameter_that_contradicts_the_model_is_refused(project, model, asked, expected):
    use(project, model)
    with pytest.raises(click.ClickException, match=expected):
        run(project, "generation", model=asked)


def test_another_configuration_does_not_take_the_champion_out_of_service(project):
    use(project, "champion")
    (project / "conf/test/parameters_model.yml").write_text("model:\n  latent_dim: 5\n")
    run(project, "generation")
    release = releases_of(project).load()
    assert said_by_outputs(project, "generation")[1] == release.name


def test_a_machine_that_only_retrains_has_a_model_for_everybody(served_copy):
    use(served_copy, "champion")
    line = retrain(served_copy, **{"training.epochs": 3})
    assert line["outcome"] == "promoted", line
    give_new_images(served_copy)
    for pipeline in OF_A_RELEASE:
        run(served_copy, pipeline)
        release = releases_of(served_copy).load()
        release.check()
        assert said_by_outputs(served_copy, pipeline) == (line["champion"], release.name)
    # On the images of the retraining, not on those of a training beside it: there was none.
    metrics = json.loads((served_copy / "data/test/08_reporting/metrics.json").read_text())
    assert metrics.pop("release") == release.name
    assert metrics == release.load("metrics.json")
    run(served_copy, "reporting")
    for figure in ("learning_curves", "latent_scatter"):
        drawn = json.loads((served_copy / f"data/test/08_reporting/{figure}.json").read_text())
        said = drawn["layout"]["annotations"][-1]["text"].replace("<br>", " ")
        assert said.endswith(f"Release {release.name}.")
    assert not (served_copy / "data/test/06_models/encoder.keras").exists()
    line = retrain(served_copy, "roll-back")
    run(served_copy, "generation")
    assert said_by_outputs(served_copy, "generation")[0] == line["champion"]
    damage(served_copy, "test_images.parquet")
    with pytest.raises(click.ClickException, match=r"test_images\.parquet is damaged"):
        run(served_copy, "generation")
    assert "was damaged" in retrain(served_copy, **{"training.epochs": 2})["repaired"]
    run(served_copy, "generation")
    assert said_by_outputs(served_copy, "generation")[1] == releases_of(served_copy).load().name
