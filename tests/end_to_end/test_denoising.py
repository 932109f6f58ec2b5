"""`denoising` after a training: it runs alone, and all that it makes is on disk with a preview."""

import numpy as np
import pandas as pd

from mnist_vae.pipelines.denoising import create_pipeline
from tests.conftest import catalog_of, run

OF_THE_SCORES = {"denoising_scores", "inpainting_scores"}


def test_it_runs_alone_after_the_training_and_gives_the_same_every_time(copied):
    run(copied, "denoising")
    catalog = catalog_of(copied)
    outputs = create_pipeline().all_outputs()
    first = {name: catalog[name].preview() for name in outputs}
    assert all(catalog.exists(name) for name in outputs)
    version = catalog["training_summary"].load()["model_version"]
    for name in OF_THE_SCORES:
        scores = catalog[name].load()
        assert set(scores["model_version"]) == {version}
        assert np.isfinite(scores[["psnr", "psnr_se", "ssim"]]).all(axis=None)
    before = pd.read_parquet(copied / "data/test/08_reporting/denoising_scores.parquet")
    run(copied, "denoising")
    again = pd.read_parquet(copied / "data/test/08_reporting/denoising_scores.parquet")
    assert again.equals(before)
    catalog = catalog_of(copied)
    assert {name: catalog[name].preview() for name in outputs} == first
