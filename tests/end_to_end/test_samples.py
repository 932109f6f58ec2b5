"""What is generated beyond the prior, by way of the pipeline."""

import pandas as pd
import pytest

from tests.conftest import run


@pytest.mark.slow
def test_a_class_is_generated_where_it_is_asked_for(copied):
    run(copied, "generation", generation={"sampler": "class_mixture", "label": 7, "n_images": 5})
    table = pd.read_parquet(copied / "data/test/07_model_output/generated_images.parquet")
    assert table["label"].tolist() == [7] * 5
