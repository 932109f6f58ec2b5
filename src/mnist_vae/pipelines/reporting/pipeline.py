"""Wiring: what a model has made to figures, to its report and to its card."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.reporting import nodes
from mnist_vae.report.card import render_card

_HOW = ["params:reporting", "params:seed"]
_MODEL = ["training_summary", "metrics", "latent_embeddings", "decoder"]
_MADE = ["training_history", "run_manifest", "generated_images", "latent_manifold"]


def create_pipeline(*, findings: bool) -> Pipeline:
    """Return the pipeline to figures, card and report.

    With `findings` the report takes those of `anomaly` and `denoising` too.
    """
    history = ["training_history", "training_summary"]
    embeddings = ["latent_embeddings", "training_summary", *_HOW]
    card = ["training_summary", "metrics", "run_manifest"]
    files = [*_MODEL, *nodes.SPLITS, *_MADE, "interpolations"]
    report = {name: name for name in [*files, *(nodes.FINDINGS if findings else ())]}
    report |= {"reporting_params": "params:reporting", "seed": "params:seed"}
    curves, scatter = nodes.draw_learning_curves, nodes.draw_latent_scatter
    return Pipeline(
        [
            Node(curves, history, "learning_curves", name="draw_learning_curves"),
            Node(scatter, embeddings, "latent_scatter", name="draw_latent_scatter"),
            Node(render_card, card, "model_card", name="write_model_card"),
            Node(nodes.write_model_report, report, "model_report", name="write_model_report"),
        ]
    )
