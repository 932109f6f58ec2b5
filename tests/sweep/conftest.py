"""Runs of a sweep, made up."""

from pathlib import Path

import pytest

from mnist_vae.sweep.records import Figures, RunOrder, RunResult


@pytest.fixture
def figures():
    """A maker of the figures of a run."""

    def make(elbo=140.0, kl=7.0, test=141.0, term="binary_crossentropy", images="a"):
        return Figures(
            splits={
                "validation": {"negative_elbo": elbo, "reconstruction": elbo - kl, "kl": kl},
                "test": {"negative_elbo": test, "reconstruction": test - kl, "kl": kl},
            },
            reconstruction_term=term,
            validation_images=images,
            model_version="0123456789abcdef",
            epochs=2,
            training_seconds=3.0,
        )

    return make


@pytest.fixture
def result(figures):
    """A maker of results; without −ELBO the run failed."""

    def make(setting, seed, elbo=None, **values):
        folder = Path(setting)
        if elbo is None:
            return RunResult(setting, seed, folder, "failed", last_line="The disk is full.")
        return RunResult(setting, seed, folder, "done", figures(elbo, **values))

    return make


@pytest.fixture
def order(tmp_path):
    """A maker of orders."""

    def make(name="run", fingerprint="f", **variables):
        return RunOrder(
            setting="default",
            seed=1,
            project=tmp_path,
            folder=tmp_path / name,
            raw=tmp_path / "raw" / "01_raw",
            env="test",
            pipelines=("training",),
            params={"seed": 1, "data_folder": str(tmp_path / name / "data")},
            fingerprint=fingerprint,
            variables=variables,
        )

    return make
