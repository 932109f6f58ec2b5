"""The pipelines, their catalog entries and the annotations that Kedro reads."""

import typing

import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import CatalogConfigResolver
from pydantic import BaseModel

from mnist_vae.params import Parameters
from mnist_vae.pipeline_registry import register_pipelines
from mnist_vae.settings import CONFIG_LOADER_ARGS
from tests.projects import ROOT

PIPELINES = register_pipelines()
DEFAULT = PIPELINES["__default__"]
JOBS = ("intake", "candidate", "promotion", "scoring")
CATALOG = OmegaConfigLoader(str(ROOT / "conf"), env="local", **CONFIG_LOADER_ARGS)["catalog"]
RESOLVER = CatalogConfigResolver(CATALOG)
NAMES = {
    name
    for pipeline in PIPELINES.values()
    for name in pipeline.datasets()
    if not name.startswith("param")
}


def path_of(name):
    """The path of a dataset, by its name or by a pattern."""
    entry = RESOLVER.resolve_pattern(name)
    return entry.get("filepath") or entry.get("path")


def test_an_evaluation_alone_makes_no_record_of_a_training():
    """That is of the run that trained the model, whose parameters those of today need not be."""
    made = {name: PIPELINES[name].all_outputs() for name in ("evaluation", "training", "candidate")}
    assert "metrics" in made["evaluation"]
    assert "run_manifest" not in made["evaluation"]
    assert "run_manifest" in made["training"]
    assert "candidate_run_manifest" in made["candidate"]


def test_the_default_graph_is_one_that_a_person_can_read():
    assert len([name for name in DEFAULT.datasets() if not name.startswith("param")]) <= 22


def test_every_dataset_is_persisted_in_the_layer_of_its_folder():
    for name in NAMES:
        metadata = RESOLVER.resolve_pattern(name).get("metadata", {})
        shown = metadata.get("kedro-viz", {}).get("layer")
        folder = path_of(name).split("/")[1]
        # What the model in service affects is before and after the models.
        is_of_a_job = shown is None and name not in DEFAULT.datasets()
        assert is_of_a_job or folder.partition("_")[2] == shown, name


def test_the_catalog_has_no_entry_that_no_pipeline_uses():
    patterns = {RESOLVER.match_dataset_pattern(name) for name in NAMES - set(CATALOG)}
    assert {name for name in CATALOG if not name.startswith("_")} <= NAMES | patterns


def test_every_parameter_group_reaches_its_node_as_a_typed_object():
    """An annotation that cannot be resolved would make the node receive a raw dict."""
    for node in [*DEFAULT.nodes, *PIPELINES["scoring"].nodes]:
        hints = typing.get_type_hints(node.func)
        for name, argument in zip(node.inputs, hints, strict=False):
            if name.startswith("params:") and name != "params:seed":
                expected = Parameters.model_fields[name.removeprefix("params:")].annotation
                assert issubclass(expected, BaseModel)
                assert hints[argument] is expected, (node.name, argument)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_shares_no_file_that_is_written_with_the_other_pipelines(name):
    others = [PIPELINES[other].datasets() for other in PIPELINES if other not in JOBS]
    read = {path_of(each) for each in set().union(*others) & NAMES}
    written = {path_of(each) for each in PIPELINES[name].all_outputs()}
    assert written
    assert not written & read
