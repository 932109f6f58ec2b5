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
    splits = [f"archive_{split}_images" for split in ("learning", "judge", "validation", "test")]
    gathered = ["retraining_plan", "batches_in_use", *splits, "archive_data_manifest"]
    candidate = [f"candidate_{split}_images" for split in ("train", "validation", "test")]
    images, manifest = [*candidate, "archive_held_out_images"], "candidate_data_manifest"
    started = [manifest, "champion", "candidate_train_images", "params:model", "params:seed"]
    networks = ["candidate_encoder_init", "candidate_decoder_init"]
    return Pipeline(
        [
            Node(nodes.gather_images, gathered, [*images, manifest], name="gather_images"),
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
