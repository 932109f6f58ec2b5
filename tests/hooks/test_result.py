"""What a run says of its nodes, and what is left of it when it has ended well."""

import logging

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from mnist_vae.data.models import TrainingBackupDataset
from mnist_vae.hooks.result import Result


@pytest.mark.parametrize(
    ("inputs", "name", "left"),
    [
        (["training_backup"], "training", False),
        (["images"], "training", True),
        (["training_backup"], "candidate", True),
    ],
)
def test_the_backup_goes_when_a_run_that_trains_has_ended_well(tmp_path, inputs, name, left):
    path = tmp_path / "backup.npz"
    path.touch()
    backup = TrainingBackupDataset(filepath=str(path))
    catalog = DataCatalog({"training_backup": backup, "images": MemoryDataset()})
    pipeline = Pipeline([Node(lambda _: 1, inputs, "model", name="train")])
    result = Result()
    result.after_catalog_created(conf_catalog={})
    result.after_pipeline_run(
        run_params={"pipeline_names": [name]}, pipeline=pipeline, catalog=catalog
    )
    assert path.exists() is left


def test_a_node_is_named_without_its_inputs_and_outputs(caplog):
    node = Node(lambda _: 1, ["images"], "model", name="train", namespace="training")
    with caplog.at_level(logging.INFO):
        Result().before_node_run(node=node)
    assert caplog.messages == ["Running node: train"]
