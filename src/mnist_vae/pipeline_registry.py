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
    promotion,
    reporting,
    retraining,
    scoring,
    training,
    usage,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline by its name.

    Explicit, as `find_pipelines` would look for a folder of the name that `kedro run --pipeline`
    asks for, and a composed pipeline has none.
    """
    data_pipeline = data.create_pipeline()
    evaluation_pipeline = evaluation.create_pipeline()
    export_pipeline = export.create_pipeline()
    model_pipeline = (
        training.create_pipeline()
        + evaluation_pipeline
        + evaluation.create_record_pipeline()
        + export_pipeline
    )
    training_pipeline = data_pipeline + construction.create_pipeline() + model_pipeline
    embedding_pipeline = embedding.create_pipeline()
    generation_pipeline = generation.create_pipeline()
    reporting_pipeline = reporting.create_pipeline()
    calibration_pipeline = anomaly.create_calibration_pipeline()
    usage_pipeline = usage.create_pipeline()
    return {
        "data": data_pipeline,
        "training": training_pipeline,
        "embedding": embedding_pipeline,
        "embedding_of_new_images": embedding.create_new_images_pipeline() + usage_pipeline,
        "anomaly": anomaly.create_pipeline() + usage_pipeline,
        "anomaly_of_new_images": anomaly.create_new_images_pipeline() + usage_pipeline,
        "evaluation": evaluation_pipeline
        + evaluation.create_sample_quality_pipeline()
        + evaluation.create_report_pipeline()
        + usage_pipeline,
        "export": export_pipeline + usage_pipeline,
        "generation": generation_pipeline + usage_pipeline,
        "denoising": denoising.create_pipeline() + usage_pipeline,
        "reporting": reporting_pipeline,
        "retraining": retraining.create_pipeline(
            data_pipeline,
            model_pipeline + generation_pipeline + reporting_pipeline + calibration_pipeline,
            embedding_pipeline,
        ),
        "rollback": promotion.create_rollback_pipeline(),
        "withdrawal": intake.create_withdrawal_pipeline(),
        "scoring": scoring.create_pipeline(),
        "__default__": training_pipeline
        + embedding_pipeline
        + generation_pipeline
        + reporting_pipeline,
    }
