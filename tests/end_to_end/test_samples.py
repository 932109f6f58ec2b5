"""What is generated beyond the prior, and how good it is, by way of the pipelines."""

import json

import pandas as pd
import pytest

from tests.conftest import run

pytestmark = pytest.mark.slow  # they train a classifier, and fit mixtures


def test_a_class_is_generated_where_it_is_asked_for(copied):
    run(copied, "generation", generation={"sampler": "class_mixture", "label": 7, "n_images": 5})
    table = pd.read_parquet(copied / "data/test/07_model_output/generated_images.parquet")
    assert table["label"].tolist() == [7] * 5
    usage = json.loads((copied / "data/test/08_reporting/usage_manifest.json").read_text())
    assert usage["parameters"]["generation"]["sampler"] == "class_mixture"


def test_the_quality_of_samples_is_measured_where_the_evaluation_is_to_be_thorough(copied):
    data = copied / "data/test"
    classifier = data / "06_models/feature_classifier.keras"

    def evaluate(**params):
        run(copied, "evaluation", **params)
        return json.loads((data / "08_reporting/sample_quality.json").read_text())

    assert evaluate()["skipped"].endswith("set `evaluation.thorough` to true.")
    assert not classifier.exists()
    few = {"likelihood_images": 50, "refine_steps": 2}
    thorough = evaluate(evaluation={"thorough": True, **few})
    assert thorough["skipped"] is None
    assert [row["set"] for row in thorough["sets"]][-1] == "class_mixture"
    assert (data / "08_reporting/sampler_sheet.png").stat().st_size > 0
    before = classifier.read_bytes()
    assert evaluate()["sets"] is None
    assert classifier.read_bytes() == before
