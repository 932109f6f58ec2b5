"""The pipelines that a user names."""

from kedro.pipeline import Pipeline

from mnist_vae.pipelines import (
    anomaly,
    construction,
    data,
    denoising,
    embedding,
    evaluation,
    export,
    generation,
    intake,
    model_report,
    promotion,
    reporting,
    retraining,
    scoring,
    training,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline by its name.

    Explicit, as `find_pipelines` would look for a folder of the name that `kedro run --pipeline`
    asks for, and a composed pipeline has none.
    """
    data_pipeline = _stage("data", data.create_pipeline())
    evaluation_pipeline = _stage("evaluation", evaluation.create_pipeline())
    export_pipeline = _stage("export", export.create_pipeline())
    model_pipeline = (
        _stage("training", training.create_pipeline())
        + evaluation_pipeline
        + _stage("evaluation", evaluation.create_record_pipeline())
        + export_pipeline
    )
    construction_pipeline = _stage("construction", construction.create_pipeline())
    training_pipeline = data_pipeline + construction_pipeline + model_pipeline
    embedding_pipeline = _stage("embedding", embedding.create_pipeline())
    generation_pipeline = _stage("generation", generation.create_pipeline())
    reporting_pipeline = _stage("reporting", reporting.create_pipeline())
    calibration_pipeline = _stage("anomaly", anomaly.create_calibration_pipeline())
    model_report_pipeline = _stage("reporting", model_report.create_pipeline())
    return {
        "data": data_pipeline,
        "training": training_pipeline,
        "embedding": embedding_pipeline,
        "embedding_of_new_images": _stage("embedding", embedding.create_new_images_pipeline()),
        "anomaly": _stage("anomaly", anomaly.create_pipeline()),
        "anomaly_of_new_images": _stage("anomaly", anomaly.create_new_images_pipeline()),
        "evaluation": evaluation_pipeline
        + _stage("evaluation", evaluation.create_report_pipeline()),
        "export": export_pipeline,
        "generation": generation_pipeline,
        "denoising": _stage("denoising", denoising.create_pipeline()),
        "model_report": model_report_pipeline,
        "reporting": reporting_pipeline,
        "retraining": retraining.create_pipeline(
            data_pipeline,
            model_pipeline
            + generation_pipeline
            + reporting_pipeline
            + calibration_pipeline
            + _stage("reporting", model_report.create_card_pipeline()),
            embedding_pipeline,
        ),
        "rollback": promotion.create_rollback_pipeline(),
        "withdrawal": intake.create_withdrawal_pipeline(),
        "scoring": scoring.create_pipeline(),
        "__default__": training_pipeline
        + embedding_pipeline
        + generation_pipeline
        + reporting_pipeline
        + model_report_pipeline,
    }


def _stage(name: str, pipeline: Pipeline) -> Pipeline:
    """Return the pipeline as one box of Kedro-Viz: its nodes are `<name>.<node>`."""
    return Pipeline(pipeline, namespace=name, prefix_datasets_with_namespace=False)
