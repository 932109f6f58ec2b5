"""What a run is refused for before any node, and the release in service that it may only read."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from mnist_vae import settings
from mnist_vae.config import loader_of
from mnist_vae.hooks.preflight import Preflight
from mnist_vae.jobs.release_files import path_in_service
from tests.conftest import catalog_of, run
from tests.incoming import images_of, put
from tests.projects import ROOT
from tests.releases import promote, releases_of, roll_back, use
from tests.retrainings import retrain


def refused(project, pipeline, **params):
    with pytest.raises(click.ClickException) as error:
        run(project, pipeline, **params)
    return error.value.message


def test_another_backend_of_keras_is_refused_before_any_work(project, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    message = "expected KERAS_BACKEND to be tensorflow, received torch; leave it out."
    assert refused(project, "data").endswith(message)
    assert not list((project / "data/test").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("pipeline", "first", "missing"),
    [
        ("reporting", "training,embedding", "07_model_output/latent_embeddings.parquet"),
        ("generation", "data,training", "06_models/decoder.keras"),
    ],
)
def test_inputs_that_are_missing_are_named_with_their_paths_and_what_to_run_first(
    project, pipeline, first, missing
):
    message = refused(project, pipeline)
    assert message.startswith("The inputs of the run are not there: expected ")
    assert f"({project / 'data/test' / missing})" in message
    assert message.endswith(f"run `kedro run --pipelines {first}` first.")


def test_a_scoring_without_a_model_says_in_its_line_what_to_run_first(project):
    line = retrain(project, "score")
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert line["reason"].endswith("run `kedro run --pipelines training --env test` first.")


def test_a_scoring_is_not_asked_for_another_model_than_there_is(copied):
    put(copied / "data/test/01_raw/to_embed", "monday", images_of(2))
    line = retrain(copied, "score", **{"model.latent_dim": 7})
    assert line["outcome"] == "failed"
    assert line["reason"].startswith("Parameter `model.latent_dim` contradicts the model")


def test_a_model_of_other_parameters_than_those_in_conf_is_refused(copied):
    conf = copied / "conf/test/parameters_model.yml"
    for given, words in (
        ("latent_dim: 5", "`model.latent_dim` .* expected 2, received 5; take it out of conf"),
        ("hidden_units: [64]", r"expected \[512, 256\], received \[64\]"),
        ("reconstruction: mse", "`model.reconstruction` .* binary_crossentropy"),
    ):
        conf.write_text(f"model: {{{given}}}\n")
        assert re.search(words, refused(copied, "evaluation"))
    conf.write_text("model: {decoder_initialization: glorot, latent_dim: 2}\n")
    run(copied, "generation")  # only a training reads the one, and the other is right


def check(project, globals_="", given=None, parameters=""):
    """Check what is written in `conf/local` and given for one run; return the configuration."""
    bootstrap_project(project)
    (project / "conf/local/globals.yml").write_text(globals_)
    (project / "conf/local/parameters.yml").write_text(parameters)
    loader = loader_of(str(project / "conf"), None, given)
    Preflight().after_context_created(SimpleNamespace(config_loader=loader, project_path=Path()))
    return loader


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"given": {"source": {"folder": "/a", "pictures": "/b"}}}, "`pictures`, received both"),
        (
            {"globals_": "source: {folder: /a}", "given": {"source": {"pictures": "/b"}}},
            "`folder` or `pictures`, received both",
        ),
        ({"globals_": "source: {invert: true}"}, "`pictures` for `invert`, received none"),
        ({"globals_": "streaming: {above: 1}"}, "`streaming.above` is unknown: allowed are ab"),
        ({"given": {"streaming": {"above_images": "many"}}}, "`streaming.above_images` .* 'many'"),
        ({"parameters": "source: {order: [sample]}"}, "in a parameter file.*as `source` in"),
    ],
)
def test_what_is_wrong_with_the_place_of_data_is_refused_wherever_it_is_said(
    project, wrong, message
):
    with pytest.raises(click.ClickException, match=message):
        check(project, **wrong)


def test_a_place_of_data_reaches_the_catalog_from_globals_and_for_one_run(project):
    for globals_ in ("source:", "source: {folder: /mine}"):
        check(project, globals_, {"source": {"folder": "/other"}})
        check(project, globals_, {"source": {"order": ["sample", "folder"]}})
    globals_ = "source: {pictures: /mine, image_size: null, max_bad: 0.5}"
    loader = check(project, globals_, {"source": {"invert": True, "image_size": [32, 20]}})
    expected = {"path": "/mine", "image_size": [32, 20], "invert": True, "max_bad": 0.5}
    assert loader["catalog"]["raw_images"]["pictures"] == expected
    assert check(project, globals_)["catalog"]["raw_images"]["pictures"]["image_size"] is None
    for limit, *place in (
        (0, "streaming: {above_images: 0}"),
        (None, "streaming: {above_images: null}"),
        (0, "", {"streaming": {"above_images": 0}}),
        (None, "", {"streaming": {"above_images": None}}),
    ):
        catalog = check(project, *place)["catalog"]
        for name in ("images", "train_images", "validation_images", "test_images"):
            assert catalog[name]["memory_images"] == limit, name
        assert "memory_images" not in catalog["archive_images"]


def begin(folder, *pipelines, hook=None):
    """Have a process of its own come to the lock of a folder of data."""
    hook = hook or Preflight()
    hook._data, hook._paths = folder, {}
    given = {"pipeline_names": pipelines, "runtime_params": None, "only_missing_outputs": False}
    hook.before_pipeline_run(run_params=given, pipeline=Pipeline([]), catalog=DataCatalog())
    return hook


@pytest.mark.parametrize("end", ["after_pipeline_run", "on_pipeline_error"])
def test_a_second_run_in_a_folder_is_refused_until_the_first_has_ended(tmp_path, end):
    first = begin(tmp_path / "data")
    begin(tmp_path / "data", hook=first)  # another hook had refused it
    other = begin(tmp_path / "other")
    begin(tmp_path / "data", "candidate")  # a job has a lock of its own
    with pytest.raises(click.ClickException, match="another run is under way: process") as error:
        begin(tmp_path / "data", "training")
    assert str(error.value).endswith("with `--params data_folder=PATH`.")
    getattr(first, end)()
    for hook in (other, begin(tmp_path / "data", "training")):
        hook.after_pipeline_run()


def summary(version):
    return json.dumps({"model_version": version, "statement": f"Data of {version}."})


def put_in_service(project, version, **more):
    calibration = json.dumps({"of": version})
    more |= {"training_summary__json": summary(version), "anomaly_calibration__json": calibration}
    return promote(project, **more)


@pytest.fixture
def in_production(project):
    """A project whose environment `test` reads the release in service, as `prod` does."""
    bootstrap_project(project)
    use(project, "champion")
    return project


@pytest.mark.parametrize("env", ["prod", "mlflow", "local", "test"])
def test_the_environments_of_the_jobs_read_the_release_and_the_others_what_was_trained_last(env):
    bootstrap_project(ROOT)
    entries = loader_of(str(ROOT / "conf"), env)["catalog"]
    folder = "champion" if env in ("prod", "mlflow") else "06_models"
    assert entries["encoder"]["filepath"].split("/")[-2] == folder
    for name, entry in entries.items():
        in_release = folder in entry.get("filepath", "").split("/")[-2:]
        assert entry.get("read_only", False) == (in_release and folder == "champion"), name
    base = loader_of(str(ROOT / "conf"), "base")["catalog"]
    for name, entry in entries.items():
        assert entry.get("metadata") == base[name].get("metadata"), name


def test_without_a_model_in_service_only_what_reads_it_ends_and_with_one_sentence(in_production):
    assert not catalog_of(in_production).exists("encoder")
    message = refused(in_production, "embedding_of_new_images")
    assert message.startswith("There is no model in service: expected a release at ")
    assert message.endswith("run `kedro retrain`.")


@pytest.mark.parametrize("filename", ["anomaly_calibration.json", "release.json"])
def test_a_damaged_release_is_not_used_and_a_scoring_says_so_in_its_line(in_production, filename):
    release = put_in_service(in_production, "one")
    (release.folder / filename).write_text("{")
    message = refused(in_production, "generation")
    assert "damaged: expected" in message
    assert filename in message
    assert "`kedro retrain`, which first puts" in message
    line = retrain(in_production, "score")
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert line["reason"] == message.replace("retrain`", "retrain --env test`")


def test_a_run_that_would_write_to_a_release_is_refused_before_any_work(in_production):
    for pipeline in ("export", "__default__"):
        message = refused(in_production, pipeline)
        assert message.startswith("The run would write ")
        assert "train the next one with `kedro retrain`" in message
        put_in_service(in_production, pipeline.strip("_"))
    assert not list((in_production / "data/test").glob("0[1257]*"))
    releases_of(in_production).load().check()


def test_a_catalog_reads_one_release_whatever_is_promoted_or_rolled_back_meanwhile(in_production):
    first = put_in_service(in_production, "one")
    catalog = catalog_of(in_production)
    of_release = {"release": first.name, "refine_steps": 0}
    assert catalog.load("training_summary") == {**json.loads(summary("one")), **of_release}
    second = put_in_service(in_production, "two")
    assert catalog.load("training_summary")["release"] == first.name
    again = catalog_of(in_production)
    assert again.load("training_summary")["release"] == second.name
    roll_back(in_production, first.name)
    assert again.load("training_summary")["release"] == second.name


def test_a_promotion_while_a_catalog_is_read_makes_no_mixture(in_production, monkeypatch):
    first = put_in_service(in_production, "one")

    def and_then_promote(models):
        found = path_in_service(models)
        put_in_service(in_production, "two")
        return found

    monkeypatch.setattr(settings, "path_in_service", and_then_promote)
    entries = loader_of(str(in_production / "conf"), "test")["catalog"]
    named = {entry["filepath"].split("/")[-2] for entry in entries.values() if "filepath" in entry}
    assert {name for name in named if name.startswith("0000")} == {first.name}
    assert releases_of(in_production).load().name == "000002-two"
