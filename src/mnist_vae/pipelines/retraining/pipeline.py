"""Wiring: batches that arrive to a plan, a plan to a candidate, and a candidate to a decision."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.retraining import candidate, intake, promotion
from mnist_vae.pipelines.retraining.report import write_report

_HOW = ["params:retraining", "params:seed"]
_LEARNED, _JUDGE = "archive_learning_images", "archive_judge_images"
_ARCHIVE = ["archive_validation_images", "archive_test_images", "archive_data_manifest"]


def create_intake_pipeline() -> Pipeline:
    """Return the pipeline from incoming batches to those in use, and to a plan."""
    batches = ["incoming_batches", "earlier_batches", "withdrawn_batches"]
    checked = [*batches, "archive_train_images", *_ARCHIVE, "champion", "params:split", *_HOW]
    # The batches first: none is reported as accepted before it is saved.
    accepted = ["batches_in_use", "batch_intake"]
    drawn_from, sets = ["archive_train_images", *_HOW], [_LEARNED, _JUDGE]
    data = ["archive_data_manifest", *accepted]
    known, plan = ["champion", "declined_candidates", _JUDGE, "parameters"], "retraining_plan"
    return Pipeline(
        [
            Node(intake.check_batches, checked, accepted, name="check_batches"),
            Node(candidate.set_judge_apart, drawn_from, sets, name="set_judge_apart"),
            Node(candidate.plan_retraining, [*data, *known], plan, name="plan_retraining"),
        ]
    )


def create_candidate_pipeline() -> Pipeline:
    """Return the pipeline from the plan to what a candidate is made of."""
    gathered = ["retraining_plan", "batches_in_use", _LEARNED, _JUDGE, *_ARCHIVE]
    splits = [f"candidate_{split}_images" for split in ("train", "validation", "test")]
    images, manifest = [*splits, "archive_held_out_images"], "candidate_data_manifest"
    started = [manifest, "champion", "candidate_train_images", "params:model", "params:seed"]
    networks = ["candidate_encoder_init", "candidate_decoder_init"]
    return Pipeline(
        [
            Node(candidate.gather_images, gathered, [*images, manifest], name="gather_images"),
            Node(candidate.start_networks, started, networks, name="start_networks"),
        ]
    )


def create_promotion_pipeline() -> Pipeline:
    """Return the pipeline from a candidate and the model in service to a decision and a report."""
    models = ["candidate", "champion"]
    judged = [*models, _LEARNED, _JUDGE]
    trained = ["params:model", "params:training", "params:evaluation", *_HOW, "repeats_backup"]
    known = ["retraining_plan", "comparison", "champion", "declined_candidates", "batches_in_use"]
    decided = ["retraining_decision", "retraining_plan", "batch_intake", *models]
    shown = [*decided, _JUDGE, "params:reporting", "params:seed"]
    return Pipeline(
        [
            Node(promotion.compare, [*judged, *trained], "comparison", name="compare"),
            Node(promotion.decide, [*known, *_HOW], "retraining_decision", name="decide"),
            Node(write_report, shown, "retraining_report", name="write_report"),
        ]
    )


def renamed(name: str, pipeline: Pipeline, **inputs: str) -> Pipeline:
    """Return a stage of the default run with datasets `<name>_...`, but for these inputs."""
    params = {one for one in pipeline.inputs() if one.startswith("param")}
    return Pipeline(
        pipeline,
        namespace=name,
        inputs={one: inputs.get(one, f"{name}_{one}") for one in pipeline.inputs() - params},
        outputs={one: f"{name}_{one}" for one in pipeline.all_outputs()},
        parameters=params,
        prefix_datasets_with_namespace=False,
    )
