"""What a run is refused for before any node runs: wrong parameters, a missing input."""

import re
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from mnist_vae.config import loader_of
from mnist_vae.hooks.preflight import Preflight
from tests.conftest import run
from tests.incoming import images_of, put
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
        ("generation", "training", "06_models/decoder.keras"),
        ("embedding", "training", "06_models/encoder.keras"),
    ],
)
def test_inputs_that_are_missing_are_named_with_their_paths_and_what_to_run_first(
    project, pipeline, first, missing
):
    message = refused(project, pipeline)
    assert message.startswith("The inputs of the run are not there: expected ")
    assert f"({project / 'data/test' / missing})" in message
    assert message.endswith(f"run `kedro run --pipelines {first} --env test` first.")


def test_new_images_that_are_missing_are_asked_for(project):
    message = refused(project, "embedding_of_new_images")
    assert message.startswith("There is no file ")
    assert "new_images.idx3-ubyte.gz: expected an IDX file there" in message
    assert "save one with `IdxDataset(filepath=...).save(array)`" in message


def test_a_scoring_without_a_model_says_in_its_line_what_to_run_first(project):
    line = retrain(project, "score")
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert line["reason"].startswith(
        "The inputs of the run are not there: expected training_summary ("
    )
    assert line["reason"].endswith("run `kedro run --pipelines training --env test` first.")


def test_a_scoring_is_not_asked_for_another_model_than_there_is(copied):
    put(copied / "data/test/01_raw/to_embed", "monday", images_of(2))
    line = retrain(copied, "score", **{"model.latent_dim": 7})
    assert line["outcome"] == "failed"
    assert line["reason"].startswith("Parameter `model.latent_dim` contradicts the model")


@pytest.mark.parametrize(
    ("pipeline", "given", "words"),
    [
        ("generation", "latent_dim: 5", "`model.latent_dim` .* expected 2, received 5; take"),
        (
            "embedding",
            "hidden_units: [64]",
            r"expected \[512, 256\], received \[64\]; take it",
        ),
        ("evaluation", "reconstruction: mse", "`model.reconstruction` .* binary_crossentropy"),
    ],
)
def test_a_model_of_other_parameters_than_those_in_conf_is_refused(copied, pipeline, given, words):
    (copied / "conf/test/parameters_model.yml").write_text(f"model: {{{given}}}\n")
    assert re.search(words, refused(copied, pipeline))


def test_what_only_a_training_reads_contradicts_no_model(copied):
    given = "model: {decoder_initialization: glorot, latent_dim: 2}\n"
    (copied / "conf/test/parameters_model.yml").write_text(given)
    run(copied, "generation")


def check(project, globals_="", group="source", **values):
    (project / "conf/local/globals.yml").write_text(globals_)
    given = values if "data_folder" in values else {group: values} if values else {}
    loader = loader_of(str(project / "conf"), None, given)
    Preflight().after_context_created(SimpleNamespace(config_loader=loader, project_path=Path()))
    return loader


@pytest.mark.parametrize("globals_", ["", "source:", "source: {folder: /mine}"])
def test_a_folder_in_the_globals_may_be_named_or_left_open(project, globals_):
    check(project, globals_)
    check(project, globals_, folder="/other")
    check(project, globals_, order=["sample", "folder"])


@pytest.mark.parametrize(
    ("globals_", "source", "message"),
    [
        ("", {"folder": "/a", "pictures": "/b"}, "expected `folder` or `pictures`, received both"),
        ("source: {folder: /a}", {"pictures": "/b"}, "`folder` or `pictures`, received both"),
        ("source: {invert: true}", {}, "expected `pictures` for `invert`, received none"),
        ("", {"pictures": "/b", "image_size": "big"}, "`source.image_size` .* received 'big'"),
        ("", {"folder": None}, "`source.folder` is wrong: .* a valid string, received None"),
    ],
)
def test_a_wrong_or_contradictory_source_is_refused_wherever_it_is_said(
    project, globals_, source, message
):
    with pytest.raises(click.ClickException, match=message):
        check(project, globals_, **source)


def test_a_folder_of_pictures_reaches_the_catalog_from_globals_and_for_one_run(project):
    globals_ = "source: {pictures: /mine, image_size: null, max_bad: 0.5}"
    loader = check(project, globals_, invert=True, image_size=[32, 20])
    assert loader["catalog"]["raw_images"]["pictures"] == {
        "path": "/mine",
        "image_size": [32, 20],
        "invert": True,
        "max_bad": 0.5,
    }
    assert check(project, globals_)["catalog"]["raw_images"]["pictures"]["image_size"] is None


@pytest.mark.parametrize(
    ("globals_", "given", "message"),
    [
        ("streaming: {above: 1}", {}, "`streaming.above` is unknown: allowed are above_images"),
        ("", {"above_images": "many"}, "`streaming.above_images` is wrong: .* received 'many'"),
    ],
)
def test_a_wrong_limit_of_streaming_is_refused_wherever_it_is_said(
    project, globals_, given, message
):
    with pytest.raises(click.ClickException, match=message):
        check(project, globals_, "streaming", **given)


@pytest.mark.parametrize("limit", [0, None])
def test_the_limit_of_streaming_reaches_the_catalog_from_globals_and_for_one_run(project, limit):
    written = "null" if limit is None else limit
    globals_ = f"streaming: {{above_images: {written}}}"
    for given in ({}, {"above_images": limit}):
        loader = check(project, globals_ if not given else "", "streaming", **given)
        catalog = loader["catalog"]
        for name in ("images", "train_images", "validation_images", "test_images"):
            assert catalog[name]["memory_images"] == limit, name
        assert "memory_images" not in catalog["archive_images"]


@pytest.mark.parametrize(
    ("name", "home"), [("source", "as `source` in"), ("data_folder", "as `data` in")]
)
def test_a_place_in_a_parameter_file_is_refused(project, name, home):
    value = {"source": "{order: [sample]}", "data_folder": "/mine"}[name]
    (project / "conf/local/parameters.yml").write_text(f"{name}: {value}")
    with pytest.raises(click.ClickException, match=f"`{name}` is in a parameter file.*{home}"):
        check(project)


@pytest.mark.parametrize("folder", ["", None, 3])
def test_a_data_folder_is_a_path(project, folder):
    with pytest.raises(click.ClickException, match="`data_folder` is wrong"):
        check(project, data_folder=folder)


@pytest.fixture
def locker(tmp_path):
    """A maker of hooks, each that of a process of its own, that are at the lock."""
    hooks = []

    def make(data="data"):
        hook = Preflight()
        hook._data = tmp_path / data
        hook._paths = {}
        hooks.append(hook)
        return hook

    yield make
    for hook in hooks:
        hook.after_pipeline_run()


def begin(hook, *pipelines):
    given = {"pipeline_names": list(pipelines), "env": "test", "runtime_params": None}
    hook.before_pipeline_run(
        run_params={**given, "only_missing_outputs": False},
        pipeline=Pipeline([]),
        catalog=DataCatalog(),
    )


@pytest.mark.parametrize("end", ["after_pipeline_run", "on_pipeline_error"])
def test_a_second_run_is_refused_until_the_first_has_ended(locker, end):
    first, second = locker(), locker()
    begin(first)
    begin(first)  # another hook had refused it
    with pytest.raises(click.ClickException, match="another run is under way: process") as error:
        begin(second, "training")
    assert str(error.value).endswith("with `--params data_folder=PATH`.")
    getattr(first, end)()
    begin(second, "training")


def test_runs_in_two_folders_and_jobs_go_by(locker, tmp_path):
    begin(locker())
    begin(locker("data/test"))
    begin(locker(), "candidate")
    assert sorted(path.parent.name for path in tmp_path.rglob(".run.lock")) == ["data", "test"]


def test_a_folder_that_cannot_be_written_to_is_said(locker, tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(click.ClickException, match=r"cannot be written to.*make it writable"):
        begin(locker())
