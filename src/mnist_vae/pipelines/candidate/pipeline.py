"""Wiring: batches in use to a plan, and a plan to what a candidate is made of."""

from kedro.pipeline import Node, Pipeline

from mnist_vae.pipelines.candidate import nodes


def create_plan_pipeline() -> Pipeline:
    """Return the pipeline from the archive and the batches in use to a plan."""
    drawn_from = ["archive_train_images", "params:retraining", "params:seed"]
    data = ["archive_data_manifest", "batches_in_use", "batch_intake"]
    known = ["champion", "declined_candidates", "archive_judge_images", "parameters"]
    sets, plan = ["archive_learning_images", "archive_judge_images"], "retraining_plan"
    return Pipeline(
        [
            Node(nodes.set_judge_apart, drawn_from, sets, name="set_judge_apart"),
            Node(nodes.plan_retraining, [*data, *known], plan, name="plan_retraining"),
        ]
    )


def create_pipeline() -> Pipeline:
    """Return the pipeline from the plan to what a candidate is made of."""
    archive = ["archive_learning_images", "archive_validation_images"]
    learnt = ["candidate_train_images", "candidate_validation_images"]
    judged = ["archive_judge_images", "archive_test_images"]
    held_out = ["candidate_test_images", "archive_held_out_images"]
    described = ["retraining_plan", "batches_in_use", "archive_data_manifest"]
    manifest = "candidate_data_manifest"
    started = [manifest, "champion", "candidate_train_images", "params:model", "params:seed"]
    networks = ["candidate_encoder_init", "candidate_decoder_init"]
    return Pipeline(
        [
            Node(nodes.add_batches, [*archive, "batches_in_use"], learnt, name="add_batches"),
            Node(nodes.hold_out, judged, held_out, name="hold_out"),
            Node(nodes.describe_data, described, manifest, name="describe_data"),
            Node(nodes.start_networks, started, networks, name="start_networks"),
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
