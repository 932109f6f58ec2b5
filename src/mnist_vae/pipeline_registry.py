"""The pipelines that a user names."""

from kedro.pipeline import Pipeline

from mnist_vae.pipelines.anomaly import pipeline as anomaly
from mnist_vae.pipelines.candidate import pipeline as candidate
from mnist_vae.pipelines.data import pipeline as data
from mnist_vae.pipelines.denoising import pipeline as denoising
from mnist_vae.pipelines.embedding import pipeline as embedding
from mnist_vae.pipelines.evaluation import pipeline as evaluation
from mnist_vae.pipelines.export import pipeline as export
from mnist_vae.pipelines.generation import pipeline as generation
from mnist_vae.pipelines.intake import pipeline as intake
from mnist_vae.pipelines.promotion import pipeline as promotion
from mnist_vae.pipelines.reporting import pipeline as reporting
from mnist_vae.pipelines.scoring import pipeline as scoring
from mnist_vae.pipelines.training import pipeline as training


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline by its name."""
    # `find_pipelines` looks for a folder of each name, and a composed pipeline has none.
    data_pipeline = _stage("data", data.create_pipeline())
    training_pipeline = _stage("training", training.create_pipeline())
    embedding_pipeline = _stage("embedding", embedding.create_pipeline())
    generation_pipeline = _stage("generation", generation.create_pipeline())
    evaluation_pipeline = _stage("training", evaluation.create_pipeline())
    record_pipeline = _stage("training", evaluation.create_record_pipeline())
    reporting_pipeline = _stage("reporting", reporting.create_pipeline())
    card_pipeline = _stage("reporting", reporting.create_card_pipeline())
    export_pipeline = _stage("export", export.create_pipeline())
    trained = data_pipeline + training_pipeline + evaluation_pipeline + record_pipeline
    return {
        "data": data_pipeline,
        "training": trained,
        "embedding": embedding_pipeline,
        "embedding_of_new_images": _stage("embedding", embedding.create_new_images_pipeline()),
        "anomaly": _stage("anomaly", anomaly.create_pipeline()),
        "anomaly_of_new_images": _stage("anomaly", anomaly.create_new_images_pipeline()),
        "evaluation": evaluation_pipeline,
        "export": export_pipeline,
        "generation": generation_pipeline + _stage("generation", generation.create_more_pipeline()),
        "denoising": _stage("denoising", denoising.create_pipeline()),
        "model_report": card_pipeline
        + _stage("reporting", reporting.create_report_pipeline(findings=True)),
        "reporting": reporting_pipeline,
        "intake": candidate.renamed("archive", data_pipeline, raw_images="raw_images")
        + _stage("intake", intake.create_pipeline() + candidate.create_plan_pipeline()),
        "candidate": _stage("candidate", candidate.create_pipeline())
        + candidate.renamed(
            "candidate",
            _stage("training", training.create_start_pipeline())
            + evaluation_pipeline
            + record_pipeline
            + export_pipeline
            + generation_pipeline
            + reporting_pipeline
            + _stage("anomaly", anomaly.create_calibration_pipeline())
            + card_pipeline,
            test_images="archive_test_images",
        )
        + candidate.renamed("candidate", embedding_pipeline, test_images="held_out_images"),
        "promotion": _stage("promotion", promotion.create_pipeline()),
        "scoring": scoring.create_pipeline(),
        "__default__": trained
        + embedding_pipeline
        + generation_pipeline
        + reporting_pipeline
        + _stage("reporting", reporting.create_report_pipeline(findings=False)),
    }


def _stage(name: str, pipeline: Pipeline) -> Pipeline:
    """Return the pipeline in a box of Kedro-Viz: its nodes are `<name>.<node>`."""
    return Pipeline(pipeline, namespace=name, prefix_datasets_with_namespace=False)
