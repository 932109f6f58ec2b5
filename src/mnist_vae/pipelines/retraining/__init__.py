"""An unattended retraining: what comes before its decision, from the stages of the default run."""

from mnist_vae.pipelines.retraining.pipeline import (
    create_candidate_pipeline,
    create_intake_pipeline,
)

__all__ = ["create_candidate_pipeline", "create_intake_pipeline"]
