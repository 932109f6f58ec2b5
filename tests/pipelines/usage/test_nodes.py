"""What a run of a consumer says of itself."""

import json
from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader

from mnist_vae.params import GenerationParams
from mnist_vae.pipelines.usage import nodes
from mnist_vae.settings import CONFIG_LOADER_ARGS
from tests.projects import ROOT

SUMMARY = {"model_version": "m", "statement": "Trained on 40 images."}
PROVENANCE = {"versions": {"keras": "3"}, "git_commit": "abc"}


@pytest.fixture(scope="module")
def parameters():
    """As Kedro gives them: raw, but for the groups that a node of the run takes by its type."""
    loader = OmegaConfigLoader(str(Path(ROOT) / "conf"), env="local", **CONFIG_LOADER_ARGS)
    return {**loader["parameters"], "generation": GenerationParams(n_images=7)}


def test_it_has_the_parameters_of_consumers_and_not_those_that_shape_models(parameters):
    said = nodes.describe_use(SUMMARY, parameters, PROVENANCE)
    assert set(said["parameters"]) == {"anomaly", "embedding", "evaluation", "generation"}
    assert said["parameters"]["generation"]["n_images"] == 7
    assert said["parameters"]["evaluation"] == parameters["evaluation"]
    assert said["seed"] == parameters["seed"]
    assert (said["versions"], said["git_commit"]) == ({"keras": "3"}, "abc")
    json.dumps(said)


def test_it_names_the_release_or_says_that_the_model_is_none(parameters):
    summary = {**SUMMARY, "release": "000002-m"}
    for given, release in ((SUMMARY, None), (summary, "000002-m")):
        said = nodes.describe_use(given, parameters, PROVENANCE)
        assert (said["model_version"], said["release"]) == ("m", release)
        assert said["data"] == "Trained on 40 images."
