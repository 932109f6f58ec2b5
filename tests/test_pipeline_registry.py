"""The pipelines, their catalog entries and the annotations that Kedro reads."""

import typing
from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import CatalogConfigResolver
from pydantic import BaseModel

from mnist_vae.params import Parameters
from mnist_vae.pipeline_registry import register_pipelines
from mnist_vae.settings import CONFIG_LOADER_ARGS

PIPELINES = register_pipelines()
JOBS = ("intake", "candidate", "promotion", "scoring")
CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture(scope="module")
def catalog_config():
    return OmegaConfigLoader(str(CONF), env="local", **CONFIG_LOADER_ARGS)["catalog"]


@pytest.fixture(scope="module")
def entry_of(catalog_config):
    """A finder of the entry of a dataset, by its name or by a pattern."""
    return CatalogConfigResolver(catalog_config).resolve_pattern


def test_training_works_alone_from_raw_images():
    inputs = {name for name in PIPELINES["training"].inputs() if not name.startswith("param")}
    # The backup is the training node's own: it may be there or not.
    assert inputs == {"raw_images", "training_backup"}


def test_an_evaluation_alone_makes_no_record_of_a_training():
    """That is of the run that trained the model, whose parameters those of today need not be."""
    assert "metrics" in PIPELINES["evaluation"].all_outputs()
    assert "run_manifest" not in PIPELINES["evaluation"].all_outputs()
    assert "run_manifest" in PIPELINES["training"].all_outputs()
    assert "candidate_run_manifest" in PIPELINES["candidate"].all_outputs()


@pytest.mark.parametrize(
    ("entry", "file"),
    [
        ("candidate_test_images", "test_images.parquet"),
        ("candidate_anomaly_calibration", "anomaly_calibration.json"),
        ("retraining_report", "report.html"),
        ("candidate_model_card", "README.md"),
    ],
)
def test_a_release_has_all_that_a_consumer_reads_before_it_goes_in_service(entry_of, entry, file):
    assert entry_of(entry)["filepath"] == f"data/06_models/candidate/{file}"
    made = PIPELINES["candidate"] + PIPELINES["promotion"] + PIPELINES["intake"]
    assert entry in made.all_outputs()


def test_the_scoring_reads_a_calibration_where_there_is_one(entry_of):
    made, read = entry_of("anomaly_calibration"), entry_of("scoring_calibration")
    assert read == {**made, "optional": True}


def test_the_default_pipeline_is_the_whole_mission():
    made = PIPELINES["__default__"].all_outputs()
    assert made >= {"encoder", "decoder", "latent_embeddings", "generated_images", "metrics"}
    assert made >= {"learning_curves", "latent_scatter", "latent_manifold", "model_report"}


def test_the_graph_of_the_default_pipeline_is_one_that_a_person_can_read():
    names = PIPELINES["__default__"].datasets()
    assert len([name for name in names if not name.startswith("param")]) <= 22


def test_every_dataset_is_persisted_in_the_layer_of_its_folder(entry_of):
    layers = {
        "01_raw": "raw",
        "02_intermediate": "intermediate",
        "05_model_input": "model_input",
        "06_models": "models",
        "07_model_output": "model_output",
        "08_reporting": "reporting",
    }
    default = PIPELINES["__default__"].datasets()
    for name in set().union(*(pipeline.datasets() for pipeline in PIPELINES.values())):
        if not name.startswith("param"):
            entry = entry_of(name)
            layer = layers[(entry.get("filepath") or entry["path"]).split("/")[1]]
            shown = entry.get("metadata", {}).get("kedro-viz", {}).get("layer")
            # What the model in service affects is before and after the models.
            assert shown == layer or (shown is None and name not in default), name


def test_the_catalog_has_no_entry_that_no_pipeline_uses(catalog_config):
    names = {name for pipeline in PIPELINES.values() for name in pipeline.datasets()}
    resolver = CatalogConfigResolver(catalog_config)
    patterns = {resolver.match_dataset_pattern(name) for name in names - set(catalog_config)}
    assert {name for name in catalog_config if not name.startswith("_")} <= names | patterns


def test_every_parameter_group_reaches_its_node_as_a_typed_object():
    """An annotation that cannot be resolved would make the node receive a raw dict."""
    for node in [*PIPELINES["__default__"].nodes, *PIPELINES["scoring"].nodes]:
        hints = typing.get_type_hints(node.func)
        arguments = list(typing.get_type_hints(node.func))
        for name, argument in zip(node.inputs, arguments, strict=False):
            if name.startswith("params:") and name != "params:seed":
                expected = Parameters.model_fields[name.removeprefix("params:")].annotation
                assert issubclass(expected, BaseModel)
                assert hints[argument] is expected, (node.name, argument)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_shares_no_file_that_is_written_with_the_other_pipelines(name, entry_of):
    def paths(names):
        entries = [entry_of(name) for name in names]
        paths = {entry.get("filepath") or entry.get("path") for entry in entries if entry}
        return paths - {None}

    others = [PIPELINES[other] for other in PIPELINES if other not in JOBS]
    written = paths(PIPELINES[name].all_outputs())
    assert written
    assert not written & paths(set().union(*(pipeline.datasets() for pipeline in others)))


def test_every_random_node_takes_the_seed():
    nodes = PIPELINES["__default__"].nodes
    seeded = {node.name.split(".")[-1] for node in nodes if "params:seed" in node.inputs}
    assert seeded >= {"split_images", "train_vae"}
    assert seeded >= {"evaluate_vae", "embed_splits", "generate_images"}


def test_every_stage_of_the_default_run_is_one_box_of_kedro_viz():
    boxes = {node.namespace for node in PIPELINES["__default__"].nodes}
    assert boxes == {"data", "training", "embedding", "generation", "reporting"}
    retraining = PIPELINES["intake"] + PIPELINES["candidate"] + PIPELINES["promotion"]
    boxes = {node.namespace.split(".")[0] for node in retraining.nodes}
    assert boxes == {"archive", "intake", "candidate", "promotion"}
