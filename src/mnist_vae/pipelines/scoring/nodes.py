"""Nodes of the scoring: which batches are to be embedded, their embeddings, and when they show.

A batch is done when its file was made of the folder as it is and with the model's calibration.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mnist_vae.data.images import UNLABELLED, ImageSet, new_image_set
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import check_models, json_fingerprint
from mnist_vae.engines import embed_on, encoding_of, refine_steps_of, running, schema_of
from mnist_vae.jobs.batch_embeddings import BATCH, SIGNATURE, BatchEmbeddings
from mnist_vae.jobs.batch_files import Batch
from mnist_vae.jobs.batches import BatchFolder
from mnist_vae.jobs.names import file_name, printable
from mnist_vae.jobs.records import (
    BatchRecord,
    Intake,
    Outcome,
    Scored,
    ScoringPlan,
)
from mnist_vae.params import EmbeddingParams
from mnist_vae.vae.anomalies import Calibration

logger = logging.getLogger(__name__)


def plan_scoring(
    batches_to_embed: dict[str, BatchFolder],
    earlier_batch_embeddings: BatchEmbeddings,
    training_summary: dict[str, Any],
    scoring_calibration: Calibration | None,
    embedding_params: EmbeddingParams,
) -> ScoringPlan:
    """Return which model embeds, and whether there is anything to do."""
    model_version, release = training_summary["model_version"], training_summary.get("release")
    model = release or model_version
    done = earlier_batch_embeddings.done(model)
    calibration = _calibration_of(training_summary, scoring_calibration)
    if calibration is None:
        logger.info("%s has no threshold of anomalies: the embeddings are without them.", model)
    sign = _signer(calibration, refine_steps_of(training_summary, embedding_params))
    new = _not_done(batches_to_embed, done, sign)
    shown = not done or earlier_batch_embeddings.current == model
    rest = not new and shown
    if rest:
        reason = f"{model} has embedded all {len(batches_to_embed)} batches that are there"
    else:
        reason = f"{len(new)} of {len(batches_to_embed)} batches are not embedded by {model}"
    logger.info("%s: %s.", "No scoring" if rest else "Scoring", reason)
    return ScoringPlan(
        model=model,
        release=release,
        model_version=model_version,
        outcome=Outcome.NOTHING_NEW if rest else None,
        reason=reason,
    )


def embed_batches(
    scoring_plan: ScoringPlan,
    batches_to_embed: dict[str, BatchFolder],
    earlier_batch_embeddings: BatchEmbeddings,
    encoder: KerasModel,
    decoder: KerasModel,
    training_summary: dict[str, Any],
    scoring_calibration: Calibration | None,
    embedding_params: EmbeddingParams,
    seed: int,
) -> Iterator[tuple[dict[str, pa.Table], Intake]]:
    """Embed the batches that the model has not embedded yet, one at a time.

    Yields:
        Once a batch, and once at the end: its embeddings, by `<model>/<batch>`, and the intake so
        far. The columns are those of `embed_new_images`, `label`, and, where the model has a
        calibration, `anomaly_score` (float32) and `is_anomaly` (bool). Images are numbered from 0.

    Raises:
        ValueError: Models and summary do not belong together.
        EngineError: The engine that the parameters name cannot be had, or ended too soon.
    """
    check_models(training_summary, encoder, decoder)
    calibration = _calibration_of(training_summary, scoring_calibration)
    sign = _signer(calibration, refine_steps_of(training_summary, embedding_params))
    new = _not_done(batches_to_embed, earlier_batch_embeddings.done(scoring_plan.model), sign)
    records: dict[str, BatchRecord] = {}
    how = encoding_of(training_summary, embedding_params, seed, calibration)
    if not new:
        yield {}, Intake(batches=records)
        return
    with running(embedding_params, encoder, decoder, how) as engine:
        for name, folder in new.items():
            images, record = _look_at(folder.read())
            tables = {}
            if images is not None:
                about = {BATCH: printable(name), SIGNATURE: sign(folder)}
                schema = schema_of(encoder, [images], training_summary, calibration)
                schema = schema.with_metadata({**schema.metadata, **about})
                table = embed_on(engine, [images], schema, embedding_params.batch_size, seed)
                if calibration is not None:
                    anomalous = pc.sum(table["is_anomaly"]).as_py() or 0
                    record = record.model_copy(update={"anomalous_images": anomalous})
                tables[f"{scoring_plan.model}/{file_name(name)}"] = table
                images = None  # they are not needed while the next batch is read
            record = record.model_copy(update={"signature": folder.signature})
            records[printable(name)] = record
            logger.info("Batch %s: %s.", printable(name), record.outcome)
            yield tables, Intake(batches=records)
    yield {}, Intake(batches=records)


def finish_scoring(
    scoring_plan: ScoringPlan,
    scoring_intake: Intake,
    earlier_batch_embeddings: BatchEmbeddings,
) -> Scored:
    """Return how the run ended, and whether readers find the embeddings of this model from now on.

    They do not while a batch is still being written.
    """
    model, shown = scoring_plan.model, earlier_batch_embeddings.current
    of = {
        outcome: [n for n, record in scoring_intake.batches.items() if record.outcome == outcome]
        for outcome in ("embedded", "bad", "unfinished")
    }
    complete = not of["unfinished"] or shown in (None, model)
    moves = complete and shown != model and bool(earlier_batch_embeddings.done(model))
    images, anomalous = scoring_intake.embedded_images, scoring_intake.anomalous_images
    said = [f"{model} has embedded {len(of['embedded'])} batches, {images} images"]
    if anomalous is not None:
        said[0] += f", {anomalous} of them anomalies"
    if of["bad"]:
        said.append(f"these are bad and in quarantine: {', '.join(of['bad'])}")
    if of["unfinished"]:
        said.append(f"these are still being written: {', '.join(of['unfinished'])}")
    if not complete:
        said.append(f"readers find the embeddings of {shown} until these are embedded too")
    elif moves:
        said.append("readers find its embeddings from now on")
    if of["bad"]:
        outcome = Outcome.BAD_DATA
    elif of["embedded"] or moves:
        outcome = Outcome.SCORED
    else:
        outcome = Outcome.NOTHING_NEW
    return Scored(
        outcome=outcome,
        reason="; ".join(said),
        model=model,
        release=scoring_plan.release,
        model_version=scoring_plan.model_version,
        complete=complete,
    )


def _calibration_of(
    training_summary: dict[str, Any], calibration: Calibration | None
) -> Calibration | None:
    """Return the calibration if it is of this model: the last trained one may have none yet."""
    version = training_summary["model_version"]
    return calibration if calibration and calibration.model_version == version else None


def _signer(calibration: Calibration | None, refine_steps: int) -> Callable[[BatchFolder], str]:
    """Return what describes how a batch's file is made: folder, calibration and refinement."""
    threshold = calibration.model_dump(mode="json") if calibration else None
    suffix = json_fingerprint([threshold, refine_steps])
    return lambda folder: f"{folder.signature}-{suffix}"


def _not_done(
    batches: dict[str, BatchFolder], done: dict[str, str], sign: Callable[[BatchFolder], str]
) -> dict[str, BatchFolder]:
    """Return the batches without a file, and those that changed since it was written."""
    return {
        name: folder
        for name, folder in sorted(batches.items())
        if done.get(file_name(name)) != sign(folder)
    }


def _look_at(batch: Batch) -> tuple[ImageSet | None, BatchRecord]:
    """Return the images of a batch, if it is good, and the record of it."""
    if batch.unfinished:
        return None, BatchRecord(outcome="unfinished")
    if batch.images is None:
        return None, BatchRecord(outcome="bad", reasons=batch.problems or ("it holds no images",))
    n_images = len(batch.images)
    # All files of a folder have the same columns, so that they can be read as one table.
    unlabelled = np.full(n_images, UNLABELLED, np.uint8)
    images = new_image_set(batch.images, unlabelled if batch.labels is None else batch.labels)
    return images, BatchRecord(outcome="embedded", images=n_images)
