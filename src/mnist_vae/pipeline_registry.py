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
    embeddings = _stage("embedding", embedding.create_pipeline())
    generated = _stage("generation", generation.create_pipeline())
    evaluated = _stage("training", evaluation.create_pipeline())
    reports = _stage("reporting", reporting.create_pipeline())
    anomalies = _stage("anomaly", anomaly.create_pipeline())
    export_pipeline = _stage("export", export.create_pipeline())
    embedding_pipeline = embeddings.to_outputs("latent_embeddings")
    generation_pipeline = generated.to_outputs("generated_images")
    reporting_pipeline = reports.to_outputs("learning_curves", "latent_scatter")
    trained = data_pipeline + _stage("training", training.create_pipeline()) + evaluated
    return {
        "data": data_pipeline,
        "training": trained,
        "embedding": embedding_pipeline,
        "embedding_of_new_images": embeddings.from_inputs("new_images"),
        "anomaly": anomalies.to_outputs("anomaly_findings"),
        "anomaly_of_new_images": anomalies.from_inputs("new_images"),
        "evaluation": evaluated.to_outputs("metrics"),
        "export": export_pipeline,
        "generation": generated,
        "denoising": _stage("denoising", denoising.create_pipeline()),
        "model_report": reports.to_outputs("model_card")
        + _stage("reporting", reporting.create_report_pipeline(findings=True)),
        "reporting": reporting_pipeline,
        "intake": candidate.renamed("archive", data_pipeline, raw_images="raw_images")
        + _stage("intake", intake.create_pipeline() + candidate.create_plan_pipeline()),
        "candidate": _stage("candidate", candidate.create_pipeline())
        + candidate.renamed(
            "candidate",
            _stage("training", training.create_start_pipeline())
            + evaluated
            + export_pipeline
            + generation_pipeline
            + reports
            + anomalies.to_outputs("anomaly_calibration"),
            test_images="archive_test_images",
        )
        + candidate.renamed("candidate", embedding_pipeline, test_images="archive_held_out_images"),
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
