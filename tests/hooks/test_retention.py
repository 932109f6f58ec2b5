"""Which trained models of plain runs stay on disk."""

import json
import shutil

import pytest

from mnist_vae.hooks import retention
from tests.conftest import run

MODELS = "data/test/06_models"


def versions(project, name="encoder.keras"):
    return sorted(path.name for path in (project / MODELS / name).iterdir())


def older(project, number, *, model_version=None, manifest=True):
    """Add a copy of the last trained model, as an earlier run with other weights."""
    old = f"2020-01-{number:02d}T00.00.00.000Z"
    files = ["06_models/encoder.keras", "06_models/decoder.keras"]
    files += ["06_models/training_summary.json"]
    files += ["08_reporting/run_manifest.json"] * manifest
    for file in files:
        folder = project / "data/test" / file
        newest = max(folder.iterdir())
        shutil.copytree(newest, folder / old)
        if folder.suffix == ".json":
            path = folder / old / folder.name
            content = json.loads(path.read_text()) | {"model_version": model_version or old}
            path.write_text(json.dumps(content))
    return old


def train(project, keep):
    run(project, "training", retention={"trained_models": keep}, training={"epochs": 1})


def test_a_training_removes_the_oldest_and_a_run_that_trains_nothing_none(copied):
    first, second = older(copied, 1), older(copied, 2)
    run(copied, "generation", retention={"trained_models": 1})
    assert versions(copied)[:2] == [first, second]
    train(copied, 3)
    for name in ("encoder.keras", "decoder.keras", "training_summary.json"):
        assert len(versions(copied, name)) == 3
        assert first not in versions(copied, name)
        assert second in versions(copied, name)


@pytest.mark.slow  # it trains
def test_what_a_release_or_a_late_manifest_names_stays(copied):
    served = older(copied, 1, model_version="served", manifest=False)
    removed = older(copied, 2)
    manifest = older(copied, 3)
    release = copied / MODELS / "releases/000001-served/release.json"
    release.parent.mkdir(parents=True)
    release.write_text(json.dumps({"model_version": "served"}))
    (release.parents[1] / "000002-x").mkdir()
    (release.parents[1] / "000002-x/release.json").write_text("damaged")
    # It was told of later than it was trained.
    reports = copied / "data/test/08_reporting/run_manifest.json"
    (reports / manifest).rename(reports / "2999-01-01T00.00.00.000Z")
    train(copied, 2)
    left = versions(copied)
    assert {served, manifest} <= set(left)
    assert removed not in left
    assert len(left) == 4  # and the two newest


@pytest.mark.slow  # it trains
def test_null_keeps_all(copied):
    older(copied, 1)
    train(copied, None)
    assert len(versions(copied)) == 3


@pytest.mark.slow  # it trains
def test_what_cannot_be_removed_is_a_warning(copied, monkeypatch, caplog):
    first = older(copied, 1)

    def refuse(files, *_):
        raise PermissionError(f"{files[0]} is not yours")

    monkeypatch.setattr(retention, "remove_old_versions", refuse)
    train(copied, 1)
    assert "Old trained models were not removed" in caplog.text
    assert "is not yours" in caplog.text
    assert first in versions(copied)
