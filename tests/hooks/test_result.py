"""What is left of a run when it has ended well."""

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from mnist_vae.data.models import TrainingBackupDataset
from mnist_vae.hooks.result import Result


@pytest.mark.parametrize(
    ("entry", "name", "left"),
    [
        ("training_backup", "training", False),
        ("images", "training", True),
        ("training_backup", "candidate", True),
    ],
)
def test_the_backup_goes_when_a_run_that_trains_has_ended_well(tmp_path, entry, name, left):
    path = tmp_path / "backup.npz"
    path.touch()
    backup = TrainingBackupDataset(filepath=str(path))
    catalog = DataCatalog({"training_backup": backup, "images": MemoryDataset()})
    pipeline = Pipeline([Node(lambda _: 1, [entry], "model", name="train")])
    run = {"pipeline_names": [name]}
    result = Result()
    result.after_catalog_created(conf_catalog={})
    result.after_pipeline_run(run_params=run, pipeline=pipeline, catalog=catalog)
    assert path.exists() is left
