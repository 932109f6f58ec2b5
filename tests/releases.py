"""Releases without a retraining: the files of trained models, put in service as the job does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from mnist_vae.jobs import releases
from mnist_vae.jobs.release_files import Release, ReleaseDataset


def use(project: Path, model: str) -> None:
    """Have the environment `test` read the `champion`, or the model that was `last_trained`."""
    catalog = project / "conf/test/catalog.yml"
    catalog.unlink(missing_ok=True)
    if model == "champion":
        shutil.copy(project / "conf/prod/catalog.yml", catalog)


def releases_of(project: Path) -> ReleaseDataset:
    return ReleaseDataset(path=str(project / "data/test/06_models"))


def promote(project: Path, **files: str | Path) -> Release:
    """Put a release of these files in service: contents, or paths to copy, by `name__suffix`."""
    dataset = releases_of(project)
    folder = dataset.folder / "candidate"
    folder.mkdir(parents=True)
    run = {"parameters": {"embedding": {"refine_steps": 0}}}
    for name, content in {"run_manifest__json": json.dumps(run), **files}.items():
        path = folder / name.replace("__", ".")
        if isinstance(content, Path):
            shutil.copy(content, path)
        else:
            path.write_text(content)
    version = json.loads((folder / "training_summary.json").read_text())["model_version"]
    champion = dataset.load()
    candidate = releases.Candidate(version, fingerprint=version)
    return releases.promote(dataset.folder, candidate, champion and champion.name, keep=5)


def promote_last_trained(project: Path, **more: str | Path) -> Release:
    """Put what the last `kedro run` has trained in service."""
    data = project / "data/test"

    summary = json.loads((data / "06_models/training_summary.json").read_text())
    calibration = {
        "model_version": summary["model_version"],
        "reconstruction": summary["reconstruction"],
        "score": "excess",
        "false_positive_rate": 0.05,
        "threshold": 1.0,
        "n_validation": 3,
        "entropy_cap": 1.0,
        "latent_means": [[0.0, 0.0]],
        "latent_precision": [[1.0, 0.0], [0.0, 1.0]],
    }
    files = {
        "anomaly_calibration__json": json.dumps(calibration),
        "encoder__keras": data / "06_models/encoder.keras",
        "decoder__keras": data / "06_models/decoder.keras",
        "inference_encoder__keras": data / "06_models/inference_encoder.keras",
        "encoder__onnx": data / "06_models/encoder.onnx",
        "decoder__onnx": data / "06_models/decoder.onnx",
        "training_summary__json": data / "06_models/training_summary.json",
        "training_history__parquet": data / "06_models/training_history.parquet",
        "metrics__json": data / "08_reporting/metrics.json",
        "run_manifest__json": data / "08_reporting/run_manifest.json",
        **{
            f"{split}_images__parquet": data / f"05_model_input/{split}_images.parquet"
            for split in ("train", "validation", "test")
        },
        "latent_embeddings__parquet": data / "07_model_output/latent_embeddings.parquet",
        "learning_curves__json": data / "08_reporting/learning_curves.json",
        "latent_scatter__json": data / "08_reporting/latent_scatter.json",
        "generated_images__parquet": data / "07_model_output/generated_images.parquet",
        **{
            f"{name}__png": data / f"08_reporting/{name}.png"
            for name in (
                "generated_sheet",
                "latent_manifold",
                "interpolations",
                "reconstruction_sheet",
            )
        },
    }
    return promote(project, **{**files, **more})


def roll_back(project: Path, to: str) -> None:
    releases.roll_back(releases_of(project).folder, to)
