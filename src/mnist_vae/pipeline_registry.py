"""The pipelines that a user names."""

from kedro.pipeline import Pipeline

from mnist_vae.pipelines.anomaly import pipeline as anomaly
from mnist_vae.pipelines.data import pipeline as data
from mnist_vae.pipelines.denoising import pipeline as denoising
from mnist_vae.pipelines.embedding import pipeline as embedding
from mnist_vae.pipelines.export import pipeline as export
from mnist_vae.pipelines.generation import pipeline as generation
from mnist_vae.pipelines.reporting import pipeline as reporting
from mnist_vae.pipelines.retraining import pipeline as retraining
from mnist_vae.pipelines.training import pipeline as training


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline by its name."""
    # `find_pipelines` looks for a folder of each name, and a composed pipeline has none.
    data_pipeline = _stage("data", data.create_pipeline())
    trained = _stage("training", training.create_pipeline())
    trained_on = _stage("training", training.create_pipeline(("encoder_init", "decoder_init")))
    embeddings = embedding.create_pipeline()
    new_embeddings = _stage("embedding", embeddings.from_inputs("new_images"))
    embedding_pipeline = _stage("embedding", embeddings.to_outputs("latent_embeddings"))
    generated = _stage("generation", generation.create_pipeline())
    generation_pipeline = generated.to_outputs("generated_images")
    figures = ("learning_curves", "latent_scatter")
    reports = _stage("reporting", reporting.create_pipeline(findings=True))
    plain_reports = _stage("reporting", reporting.create_pipeline(findings=False))
    anomalies = _stage("anomaly", anomaly.create_pipeline())
    export_pipeline = _stage("export", export.create_pipeline())
    renamed = retraining.renamed
    return {
        "data": data_pipeline,
        "training": data_pipeline + trained,
        "embedding": embedding_pipeline,
        "embedding_of_new_images": new_embeddings,
        "anomaly": anomalies.to_outputs("anomaly_findings"),
        "anomaly_of_new_images": anomalies.from_inputs("new_images"),
        "evaluation": trained.only_nodes("training.evaluate_vae"),
        "export": export_pipeline,
        "generation": generated,
        "denoising": _stage("denoising", denoising.create_pipeline()),
        "model_report": reports.to_outputs("model_card", "model_report"),
        "reporting": reports.to_outputs(*figures),
        "intake": renamed("archive", data_pipeline, raw_images="raw_images")
        + _stage("intake", retraining.create_intake_pipeline()),
        "candidate": _stage("candidate", retraining.create_candidate_pipeline())
        + renamed(
            "candidate",
            trained_on
            + export_pipeline
            + generation_pipeline
            + reports.to_outputs(*figures, "model_card")
            + anomalies.to_outputs("anomaly_calibration"),
            test_images="archive_test_images",
        )
        + renamed("candidate", embedding_pipeline, test_images="archive_held_out_images"),
        "promotion": _stage("promotion", retraining.create_promotion_pipeline()),
        "scoring": embeddings.to_outputs("scoring_result"),
        "__default__": data_pipeline
        + trained
        + embedding_pipeline
        + generation_pipeline
        + plain_reports.to_outputs(*figures, "model_report"),
    }


def _stage(name: str, pipeline: Pipeline) -> Pipeline:
    """Return the pipeline in a box of Kedro-Viz: its nodes are `<name>.<node>`."""
    return Pipeline(pipeline, namespace=name, prefix_datasets_with_namespace=False)
