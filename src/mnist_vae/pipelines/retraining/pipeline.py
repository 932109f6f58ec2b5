"""Composition: the stages of the default run under the names of an archive and of a candidate."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from mnist_vae.pipelines import intake


def create_intake_pipeline(data: Pipeline) -> Pipeline:
    """Return the pipeline from raw images and new batches to a plan.

    Args:
        data: Raw images to splits; its outputs are called `archive_...` here.
    """
    stage = Pipeline(
        intake.create_pipeline(), namespace="intake", prefix_datasets_with_namespace=False
    )
    return _named(data, "archive", raw_images="raw_images") + stage


def create_candidate_pipeline(model: Pipeline, embedding: Pipeline) -> Pipeline:
    """Return the pipeline from a plan to all files of a candidate but the decision.

    Args:
        model: Splits to a trained, evaluated and calibrated model with pictures; its outputs are
            called `candidate_...` here.
        embedding: Splits to embeddings, likewise; here the judge's images are among them.
    """
    return (
        Pipeline(
            intake.create_candidate_pipeline(),
            namespace="candidate",
            prefix_datasets_with_namespace=False,
        )
        + _named(model, "candidate", test_images="archive_test_images")
        + _named(embedding, "candidate", test_images="held_out_images")
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
