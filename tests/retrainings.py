"""What an operator does to a retraining and sees of it, for tests."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from mnist_vae.data.archive_parts import read_sample
from mnist_vae.data.idx import IdxDataset
from mnist_vae.jobs.release_datasets import ReleaseDataset

PARAMS: dict[str, Any] = {
    "split.max_images": 400,
    "training.epochs": 1,
    "training.jit_compile": False,
    "retraining.min_gain": 0,
}


def last_line(stdout: str) -> dict[str, Any]:
    return json.loads(stdout.splitlines()[-1])


def retrain(project: Path, pipeline: str = "retraining", **params: Any) -> dict[str, Any]:
    """Run the job in this process and return its last line, with its log as `log`.

    That it ends as the line says is checked.
    """
    printed, log = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(log)
    bootstrap_project(project)
    code = 0
    with contextlib.redirect_stdout(printed):
        try:
            values = _nested({**PARAMS, **params})
            with KedroSession.create(project, env="test", runtime_params=values) as session:
                logging.getLogger().addHandler(handler)
                session.run(pipeline_names=[pipeline])
        except SystemExit as end:
            code = end.code
        finally:
            logging.getLogger().removeHandler(handler)
    line = last_line(printed.getvalue())
    assert code == line["exit_code"], log.getvalue()
    return {**line, "log": log.getvalue()}


def _nested(values: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in values.items():
        group, _, name = key.partition(".")
        if name:
            result.setdefault(group, {})[name] = value
        else:
            result[group] = value
    return result


def models(project):
    return project / "data/test/06_models"


def in_service(project):
    """The version in service, after a look at all that a reader relies on."""
    release = ReleaseDataset(path=str(models(project))).load()
    release.check()
    version = release.manifest["model_version"]
    assert set(release.load("latent_embeddings.parquet")["model_version"]) == {version}
    assert release.load("training_summary.json")["model_version"] == version
    encoder, decoder = release.load("encoder.keras"), release.load("decoder.keras")
    assert np.isfinite(np.asarray(decoder(encoder(np.zeros((1, 784), np.float32))[2]))).all()
    return version


def deliver(project, name, rows, labelled=True, **replaced):
    """Put a batch of these rows of the sample among the incoming ones."""
    sample = read_sample()
    images = sample["train_images"].values[rows].copy()
    for row, image in replaced.items():
        images[int(row.removeprefix("image_"))] = image
    folder = project / "data/test/01_raw/incoming" / f".{name}"
    IdxDataset(filepath=f"{folder}/images-idx3-ubyte.gz").save(images)
    if labelled:
        labels = sample["train_labels"].values[rows]
        IdxDataset(filepath=f"{folder}/labels-idx1-ubyte.gz").save(labels)
    folder.rename(folder.with_name(name))
    return folder.with_name(name)


def in_use(project):
    return sorted(
        path.name.split(".")[0]
        for path in (project / "data/test/02_intermediate/batches").glob("*.parquet")
    )


def damage(project, filename="encoder.keras"):
    path = (models(project) / "champion").resolve() / filename
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def ids_in_use(project):
    folder = project / "data/test/02_intermediate/batches"
    tables = [pd.read_parquet(path, columns=["image_id"]) for path in folder.glob("*.parquet")]
    return [int(value) for table in tables for value in table["image_id"]]
