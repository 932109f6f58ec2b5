"""Releases without a retraining: the files of trained models, put in service as the job does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from mnist_vae.jobs import releases
from mnist_vae.jobs.release_files import Release, ReleaseDataset
from tests.model_files import calibration_of


def use(project: Path, model: str) -> None:
    """Have the environment `test` read the `champion`, or the model that was `last_trained`."""
    catalog = project / "conf/test/catalog.yml"
    catalog.unlink(missing_ok=True)
    if model == "champion":
        shutil.copy(project / "conf/prod/catalog.yml", catalog)


def models_of(project: Path) -> Path:
    return project / "data/test/06_models"


def releases_of(project: Path) -> ReleaseDataset:
    return ReleaseDataset(path=str(models_of(project)))


def promote(project: Path, **files: str | Path) -> Release:
    """Put a release of these files in service: contents, or paths to copy, by `name__suffix`."""
    folder = models_of(project) / "candidate"
    folder.mkdir(parents=True)
    run = {"parameters": {"embedding": {"refine_steps": 0}}}
    for name, content in {"run_manifest__json": json.dumps(run), **files}.items():
        path = folder / name.replace("__", ".")
        if isinstance(content, Path):
            shutil.copy(content, path)
        else:
            path.write_text(content)
    version = json.loads((folder / "training_summary.json").read_text())["model_version"]
    facts = {"model_version": version, "fingerprint": version}
    releases.promote(models_of(project), facts, keep=5)
    return releases_of(project).load()


def promote_last_trained(project: Path) -> Release:
    """Put what the last `kedro run` has trained in service."""
    data = project / "data/test"
    folders = ("05_model_input", "06_models", "07_model_output", "08_reporting")
    paths = [path for folder in folders for path in (data / folder).iterdir() if path.is_file()]
    files: dict[str, str | Path] = {path.name.replace(".", "__"): path for path in paths}
    summary = json.loads((data / "06_models/training_summary.json").read_text())
    calibration = calibration_of(model_version=summary["model_version"])
    return promote(project, **files, anomaly_calibration__json=calibration.model_dump_json())


def roll_back(project: Path, to: str) -> None:
    releases.roll_back(models_of(project), to)
