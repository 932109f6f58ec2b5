"""Composition: intake, the default run's pipelines under other names, promotion."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from mnist_vae.pipelines import intake, promotion


def create_pipeline(data: Pipeline, model: Pipeline, embedding: Pipeline) -> Pipeline:
    """Return the pipeline from raw images and new batches to the model in service.

    Args:
        data: Raw images to splits; its outputs are called `archive_...` here.
        model: Splits to a trained, evaluated and calibrated model with pictures; its outputs are
            called `candidate_...` here.
        embedding: Splits to embeddings, alike; here the judge's images are among them.
    """
    return (
        _named(data, "archive", raw_images="raw_images")
        + Pipeline(
            intake.create_pipeline(), namespace="intake", prefix_datasets_with_namespace=False
        )
        + _named(model, "candidate", test_images="archive_test_images")
        + _named(embedding, "candidate", test_images="held_out_images")
        + Pipeline(
            promotion.create_pipeline(),
            namespace="promotion",
            prefix_datasets_with_namespace=False,
        )
    )


def _named(pipeline: Pipeline, name: str, **inputs: str) -> Pipeline:
    """Return the pipeline with its datasets, but for these inputs, under names of its own."""
    params = {dataset for dataset in pipeline.inputs() if dataset.startswith("param")}
    return Pipeline(
        pipeline,
        namespace=name,
        inputs={
            dataset: inputs.get(dataset, f"{name}_{dataset}")
            for dataset in pipeline.inputs() - params
        },
        outputs={dataset: f"{name}_{dataset}" for dataset in pipeline.all_outputs()},
        parameters=params,
        prefix_datasets_with_namespace=False,
    )
