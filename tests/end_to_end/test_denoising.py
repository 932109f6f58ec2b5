"""`denoising` after a training: it runs alone, and all that it makes is on disk with a preview."""

import pytest

from mnist_vae.pipelines.denoising.pipeline import create_pipeline
from tests.conftest import catalog_of, run


@pytest.mark.slow
def test_it_runs_alone_after_the_training_and_gives_the_same_every_time(copied):
    made = []
    for _ in range(2):
        run(copied, "denoising")
        catalog = catalog_of(copied)
        made.append({name: catalog[name].preview() for name in create_pipeline().all_outputs()})
        version = catalog["training_summary"].load()["model_version"]
        for name in ("denoising_scores", "inpainting_scores"):
            assert set(catalog[name].load()["model_version"]) == {version}
    assert made[0] == made[1]
