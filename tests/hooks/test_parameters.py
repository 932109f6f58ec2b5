"""What is refused before the first node: wrong sources of raw images, and where they are named."""

from types import SimpleNamespace

import click
import pytest

from mnist_vae.config import LayeredConfigLoader
from mnist_vae.hooks.parameters import ParameterCheck
from mnist_vae.settings import CONFIG_LOADER_ARGS
from tests.retrainings import retrain


def check(project, globals_="", group="source", **values):
    (project / "conf/local/globals.yml").write_text(globals_)
    given = {group: values} if values else {}
    loader = LayeredConfigLoader(
        str(project / "conf"), env="test", runtime_params=given, **CONFIG_LOADER_ARGS
    )
    ParameterCheck().after_context_created(SimpleNamespace(config_loader=loader))
    return loader


@pytest.mark.parametrize(
    "globals_", ["", "source:", "source: {folder: }", "source: {folder: /mine}"]
)
def test_a_folder_in_the_globals_may_be_named_or_left_open(project, globals_):
    check(project, globals_)
    check(project, globals_, folder="/other")
    check(project, globals_, order=["sample", "folder"])


@pytest.mark.parametrize(
    ("globals_", "source", "message"),
    [
        ("source: {foldr: /mine}", {}, "`source.foldr` is unknown: allowed are folder, order"),
        ("source: {folder: ''}", {}, "`source.folder` is wrong: .* at least 1 character"),
        ("source: {folder: /mine}", {"order": ["sample"]}, "received the folder /mine and the or"),
        ("", {"folder": "/mine", "order": ["mirrors"]}, "received the folder /mine and the order"),
        ("", {"folder": None}, "`source.folder` is wrong: .* a valid string, received None"),
    ],
)
def test_a_wrong_or_contradictory_source_is_refused_wherever_it_is_said(
    project, globals_, source, message
):
    with pytest.raises(click.ClickException, match=message):
        check(project, globals_, **source)


@pytest.mark.parametrize(
    ("globals_", "given", "message"),
    [
        ("streaming: {above_images: -1}", {}, "`streaming.above_images` is wrong: .* received -1"),
        ("streaming: {above: 1}", {}, "`streaming.above` is unknown: allowed are above_images"),
        ("", {"above_images": "many"}, "`streaming.above_images` is wrong: .* received 'many'"),
    ],
)
def test_a_wrong_limit_of_streaming_is_refused_wherever_it_is_said(
    project, globals_, given, message
):
    with pytest.raises(click.ClickException, match=message):
        check(project, globals_, "streaming", **given)


@pytest.mark.parametrize("limit", [0, 5, None])
def test_the_limit_of_streaming_reaches_the_catalog_from_globals_and_for_one_run(project, limit):
    written = "null" if limit is None else limit
    globals_ = f"streaming: {{above_images: {written}}}"
    for given in ({}, {"above_images": limit}):
        loader = check(project, globals_ if not given else "", "streaming", **given)
        catalog = loader["catalog"]
        for name in ("images", "train_images", "validation_images", "test_images"):
            assert catalog[name]["memory_images"] == limit, name
        assert catalog["latent_embeddings"]["memory_rows"] == limit
        assert "memory_images" not in catalog["archive_images"]


@pytest.mark.parametrize(
    ("name", "home"), [("source", "globals.yml or in --params"), ("data_folder", "as `data` in")]
)
def test_a_place_in_a_parameter_file_is_refused(project, name, home):
    value = {"source": "{order: [sample]}", "data_folder": "/mine"}[name]
    (project / "conf/local/parameters.yml").write_text(f"{name}: {value}")
    with pytest.raises(click.ClickException, match=f"`{name}` is in a parameter file.*{home}"):
        check(project)


@pytest.mark.parametrize("folder", ["", None, 3])
def test_a_data_folder_is_a_path(project, folder):
    loader = LayeredConfigLoader(
        str(project / "conf"), runtime_params={"data_folder": folder}, **CONFIG_LOADER_ARGS
    )
    with pytest.raises(click.ClickException, match="`data_folder` is wrong"):
        ParameterCheck().after_context_created(SimpleNamespace(config_loader=loader))


def test_a_job_tells_of_a_named_folder_that_is_not_there(project):
    line = retrain(project, **{"source.folder": str(project / "typo")})
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert f"received {project}/typo, which is no folder" in line["reason"]
    assert not list(project.rglob("*.parquet")), "nothing was done"
    assert not (project / "typo").exists()
