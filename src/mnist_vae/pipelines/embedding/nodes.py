"""Nodes of the scoring: which batches are to be embedded, their embeddings, and when they show.

A batch is done when its file was made of the folder as it is and with the model's calibration.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mnist_vae.data.images import UNLABELLED
from mnist_vae.data.models import KerasModel
from mnist_vae.data.origin import check_models, image_form, json_fingerprint
from mnist_vae.engines import embed_on, encoding_of, refine_steps_of, running, schema_of
from mnist_vae.jobs.batch_embeddings import BATCH, SIGNATURE, BatchEmbeddings
from mnist_vae.jobs.batches import BatchFolder
from mnist_vae.jobs.names import file_name, printable
from mnist_vae.jobs.records import BatchOutcome, BatchRecord, Intake, Outcome, Scored, ScoringPlan
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
    """Return which model embeds, and which batches: those without a file, or changed since."""
    version, release = training_summary["model_version"], training_summary.get("release")
    model = release or version
    calibration = _calibration_of(training_summary, scoring_calibration)
    threshold = calibration.model_dump(mode="json") if calibration else None
    how = json_fingerprint([threshold, refine_steps_of(training_summary, embedding_params)])
    done, shown = earlier_batch_embeddings.done(model), earlier_batch_embeddings.current
    new = [
        file_name(name)
        for name, folder in batches_to_embed.items()
        if done.get(file_name(name)) != f"{folder.signature}-{how}"
    ]
    outcome, reason = None, f"{len(new)} of {len(batches_to_embed)} batches are not embedded"
    if not new and (not done or shown == model):
        outcome = Outcome.NOTHING_NEW
        reason = f"{model} has embedded all {len(batches_to_embed)} batches that are there"
    return ScoringPlan(
        model=model,
        release=release,
        model_version=version,
        outcome=outcome,
        reason=reason,
        new=tuple(new),
        how=how,
        done=len(done),
        shown=shown,
    )


def embed_batches(
    scoring_plan: ScoringPlan,
    batches_to_embed: dict[str, BatchFolder],
    encoder: KerasModel,
    decoder: KerasModel,
    training_summary: dict[str, Any],
    scoring_calibration: Calibration | None,
    embedding_params: EmbeddingParams,
    seed: int,
) -> Iterator[tuple[dict[str, pa.Table], Intake]]:
    """Embed the batches that the plan has, one at a time.

    Yields:
        Once a batch, and once at the end: its embeddings, by `<model>/<batch>`, and the intake so
        far. The columns are those of `engines.embed`, `label`, and, where the model has a
        calibration, `anomaly_score` (float32) and `is_anomaly` (bool). Images are numbered from 0.

    Raises:
        ValueError: Models and summary do not belong together.
        EngineError: The engine that the parameters name cannot be had, or ended too soon.
    """
    check_models(training_summary, encoder, decoder)
    records: dict[str, BatchRecord] = {}
    yield {}, Intake(batches=records)
    if not scoring_plan.new:
        return
    calibration = _calibration_of(training_summary, scoring_calibration)
    how = encoding_of(training_summary, embedding_params, seed, calibration)
    with running(embedding_params, encoder, decoder, how) as engine:
        for name, folder in sorted(batches_to_embed.items()):
            if file_name(name) not in scoring_plan.new:
                continue
            batch, tables, anomalous = folder.read(image_form(training_summary)), {}, None
            outcome: BatchOutcome = "unfinished" if batch.unfinished else "bad"
            if batch.images is not None:
                # All files have labels, so that they can be read as one table.
                unlabelled = np.full(len(batch.images), UNLABELLED, np.uint8)
                label = unlabelled if batch.images.label is None else batch.images.label
                images = [replace(batch.images, label=label)]
                signature = f"{folder.signature}-{scoring_plan.how}"
                about = {BATCH: printable(name), SIGNATURE: signature}
                schema = schema_of(encoder, images, training_summary, calibration)
                schema = schema.with_metadata({**schema.metadata, **about})
                table = embed_on(engine, images, schema, embedding_params.batch_size, seed)
                tables[f"{scoring_plan.model}/{file_name(name)}"] = table
                outcome = "embedded"
                anomalous = pc.sum(table["is_anomaly"]).as_py() or 0 if calibration else None
                del images
            records[printable(name)] = BatchRecord(
                outcome=outcome,
                images=None if batch.images is None else len(batch.images),
                anomalous_images=anomalous,
                reasons=batch.problems,
                signature=folder.signature,
            )
            del batch  # it is not needed while the next one is read
            logger.info("Batch %s: %s.", printable(name), outcome)
            yield tables, Intake(batches=records)


def finish_scoring(scoring_plan: ScoringPlan, scoring_intake: Intake) -> Scored:
    """Return how the run ended, and whether readers find the embeddings of this model from now on.

    They do not while a batch is still being written.
    """
    model, shown = scoring_plan.model, scoring_plan.shown
    embedded, bad, unfinished = (
        [name for name, record in scoring_intake.batches.items() if record.outcome == outcome]
        for outcome in ("embedded", "bad", "unfinished")
    )
    complete = not unfinished or shown in (None, model)
    moves = complete and shown != model and bool(scoring_plan.done or embedded)
    images, anomalous = scoring_intake.embedded_images, scoring_intake.anomalous_images
    said = [f"{model} has embedded {len(embedded)} batches, {images} images"]
    if anomalous is not None:
        said[0] += f", {anomalous} of them anomalies"
    if bad:
        said.append(f"these are bad and in quarantine: {', '.join(bad)}")
    if unfinished:
        said.append(f"these are still being written: {', '.join(unfinished)}")
    if not complete:
        said.append(f"readers find the embeddings of {shown} until these are embedded too")
    elif moves:
        said.append("readers find its embeddings from now on")
    outcome = Outcome.SCORED if embedded or moves else Outcome.NOTHING_NEW
    outcome = Outcome.BAD_DATA if bad else outcome
    return Scored(outcome=outcome, reason="; ".join(said), complete=complete)


def _calibration_of(
    training_summary: dict[str, Any], calibration: Calibration | None
) -> Calibration | None:
    """Return the calibration if it is of this model: the last trained one may have none yet."""
    version = training_summary["model_version"]
    return calibration if calibration and calibration.model_version == version else None
