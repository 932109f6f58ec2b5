"""What an operator does to a retraining and sees of it, for tests."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from mnist_vae.data.archive import read_sample
from tests.incoming import put
from tests.projects import kedro_here
from tests.releases import models_of as models
from tests.releases import releases_of

PARAMS: dict[str, Any] = {
    "split.max_images": 400,
    "training.epochs": 1,
    "training.jit_compile": False,
    "retraining.min_gain": 0,
}


def last_line(stdout: str) -> dict[str, Any]:
    return json.loads(stdout.splitlines()[-1])


def job(project: Path, *typed: str) -> dict[str, Any]:
    """Run a command of a job in this process; return its last line, and its `log`.

    That it ends as the line says is checked.
    """
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    try:
        result = kedro_here(project, *typed)
    finally:
        logging.getLogger().removeHandler(handler)
    line = last_line(result.stdout)
    assert result.exit_code == line["exit_code"], log.getvalue()
    return {**line, "log": log.getvalue()}


def retrain(project: Path, *command: str, **params: Any) -> dict[str, Any]:
    """Run a command as `job` does, by default `retrain`, small and in the environment `test`."""
    return job(project, *arguments(*command, **params))


def arguments(*command: str, **params: Any) -> list[str]:
    """Return what is typed after `kedro`."""
    return [*(command or ("retrain",)), "--env=test", typed_params({**PARAMS, **params})]


def typed_params(params: dict[str, Any]) -> str:
    return "--params=" + ",".join(f"{key}={value}" for key, value in params.items())


def in_service(project):
    """The version in service, after a look at all that a reader relies on."""
    release = releases_of(project).load()
    release.check()
    version = release.manifest["model_version"]
    assert set(release.load("latent_embeddings.parquet")["model_version"]) == {version}
    assert release.load("training_summary.json")["model_version"] == version
    encoder, decoder = release.load("encoder.keras"), release.load("decoder.keras")
    assert np.isfinite(np.asarray(decoder(encoder(np.zeros((1, 784), np.float32))[2]))).all()
    return version


def deliver(project, name, rows, labelled=True, among="incoming"):
    """Put a batch of these rows of the sample among the incoming ones, or those to embed."""
    sample, folder = read_sample(), project / "data/test/01_raw" / among
    labels = sample.label[rows] if labelled else None
    return put(folder, f".{name}", sample.pictures[rows], labels).rename(folder / name)


def in_use(project):
    folder = project / "data/test/02_intermediate/batches"
    return sorted(path.name.split(".")[0] for path in folder.glob("*.parquet"))


def damage(project, filename="encoder.keras"):
    path = models(project) / "champion" / filename
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
