"""Which release the entries of the catalog are read from, and what is said where there is none."""

import inspect
import json

import click
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io.core import DatasetError

from mnist_vae.jobs.in_use import FILES
from mnist_vae.settings import HOOKS
from tests.conftest import catalog_of, run
from tests.projects import kedro
from tests.releases import promote, releases_of, roll_back, use
from tests.retrainings import retrain

CONSUMERS = ("generation", "embedding_of_new_images")


def summary(version):
    return json.dumps({"model_version": version, "statement": f"Data of {version}."})


def put_in_service(project, version, **more):
    return promote(
        project,
        training_summary__json=summary(version),
        metrics__json=json.dumps({"of": version}),
        **more,
    )


@pytest.fixture
def project(project):
    use(project, "champion")
    return project


def refused(project, pipeline, **params):
    with pytest.raises(click.ClickException) as error:
        run(project, pipeline, **params)
    return error.value.message


def test_the_environments_of_the_job_use_the_champion_and_the_others_what_was_trained_last():
    from kedro.config import OmegaConfigLoader

    from mnist_vae.settings import CONFIG_LOADER_ARGS
    from tests.projects import ROOT

    def setting(env):
        loader = OmegaConfigLoader(str(ROOT / "conf"), env=env, **CONFIG_LOADER_ARGS)
        return loader["globals"]["model_in_use"]

    assert {env: setting(env) for env in ("local", "test", "prod", "mlflow")} == {
        "local": "last_trained",
        "test": "last_trained",
        "prod": "champion",
        "mlflow": "champion",
    }


@pytest.mark.parametrize("pipeline", CONSUMERS)
def test_without_a_model_in_service_a_consumer_ends_with_one_sentence(project, pipeline):
    message = refused(project, pipeline)
    assert message.startswith("There is no model in service: expected a release in ")
    assert message.endswith("run `kedro retrain --env test`.")


@pytest.mark.parametrize("filename", ["metrics.json", "release.json"])
def test_a_damaged_release_is_not_used(project, filename):
    release = put_in_service(project, "one")
    (release.folder / filename).write_text("{")
    message = refused(project, "generation")
    assert message.startswith("The release in service cannot be used: ")
    assert filename in message
    assert "`kedro retrain --env test`, which first puts" in message


def test_a_scoring_says_in_its_line_that_no_whole_release_is_in_service(project):
    line = retrain(project, "score")
    assert (line["outcome"], line["exit_code"]) == ("failed", 1)
    assert line["reason"].startswith("There is no model in service: ")
    release = put_in_service(project, "one")
    (release.folder / "metrics.json").write_text("{")
    assert retrain(project, "score")["reason"].startswith("The release in service cannot be used")


def test_a_champion_that_is_a_folder_is_said_with_what_mends_it(project):
    put_in_service(project, "one")
    link = releases_of(project).folder / "champion"
    target = link.resolve()
    link.unlink()
    target.rename(link)
    assert "expected a link to a folder" in refused(project, "generation")


def test_a_release_without_a_file_is_said_to_lack_it(project):
    put_in_service(project, "one", encoder__keras="e", decoder__keras="d")
    message = refused(project, "generation")
    assert "000001-one has no test_images.parquet, which `test_images` is read from" in message


@pytest.mark.parametrize("pipeline", ["embedding", "evaluation"])
def test_images_that_the_run_makes_are_not_taken_for_those_of_the_release(project, pipeline):
    names = ("encoder", "decoder")
    images = ("train_images", "validation_images", "test_images")
    files = [f"{name}__keras" for name in names] + [f"{name}__parquet" for name in images]
    put_in_service(project, "one", **dict.fromkeys(files, "x"))
    bootstrap_project(project)
    with (
        KedroSession.create(project, env="test") as session,
        pytest.raises(click.ClickException) as error,
    ):
        session.run(pipeline_names=["data", pipeline])
    assert error.value.message == (
        "train_images, validation_images would be those of another training: expected those that "
        f"the release in service has of its own, received the pipelines data, {pipeline}, which "
        "make others; name them without `data`."
    )
    assert not (project / "data/test/02_intermediate").exists()


def test_another_value_is_refused(project):
    use(project, "latest")
    with pytest.raises(click.ClickException, match="must be last_trained or champion, received"):
        catalog_of(project)


def test_a_catalog_is_made_also_without_a_champion_and_only_who_reads_is_told(project):
    catalog = catalog_of(project)
    assert not catalog.exists("encoder")
    with pytest.raises(DatasetError, match="There is no model in service"):
        catalog.load("encoder")
    put_in_service(project, "one")
    assert catalog.load("metrics") == {"of": "one"}


def test_a_notebook_reads_one_release_whatever_is_promoted_or_rolled_back_meanwhile(project):
    first = put_in_service(project, "one")
    catalog = catalog_of(project)
    of_release = {"release": first.name, "refine_steps": 0}
    assert catalog.load("training_summary") == {**json.loads(summary("one")), **of_release}
    second = put_in_service(project, "two")
    assert catalog.load("metrics") == {"of": "one"}
    again = catalog_of(project)
    assert again.load("training_summary")["release"] == second.name
    roll_back(project, first.name)
    assert again.load("metrics") == {"of": "two"}
    assert catalog_of(project).load("metrics") == {"of": "one"}


def test_the_release_is_read_only_in_a_notebook(project):
    release = put_in_service(project, "one")
    catalog = catalog_of(project)
    with pytest.raises(DatasetError, match="of the release in service, and read-only"):
        catalog.save("metrics", {"of": "a visitor"})
    release.check()


def test_its_entries_keep_their_layers_and_the_kinds_of_their_previews(project):
    of_release = catalog_of(project)
    use(project, "last_trained")
    plain = catalog_of(project)
    for name in FILES:
        entry, other = plain[name], of_release[name]
        assert other.metadata == entry.metadata
        kinds = [inspect.signature(one.preview).return_annotation for one in (entry, other)]
        assert kinds[0] == kinds[1], name


def test_what_was_trained_last_is_read_without_a_look_at_the_releases(project):
    put_in_service(project, "one")
    use(project, "last_trained")
    assert not catalog_of(project).exists("metrics")


def test_kedros_own_commands_work_without_a_champion(project):
    for command in (["resolve-patterns"], ["describe-datasets"]):
        finished = kedro(project, "catalog", *command, "--env=test")
        assert finished.returncode == 0, finished.stderr
        assert "Replacing" not in finished.stderr


def test_nothing_is_tracked_before_the_model_is_found_and_the_inputs_are_there():
    names = [type(hook).__name__ for hook in HOOKS]
    order = ["Tracking", "Preflight", "ModelInUse"]  # Kedro calls the last first
    assert [name for name in names if name in order] == order
