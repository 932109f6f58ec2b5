"""Nodes of the pipelines `retraining` and `rollback`.

`champion` is the release in service, or None before the first one. A batch in use is known by its
folder's name and the digest of its content, `<name>.<digest>`.
"""

from __future__ import annotations

import hashlib
import html
import logging
from collections.abc import Callable, Iterable
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel

from mnist_vae.contracts import check_models, code_fingerprint, json_fingerprint
from mnist_vae.datasets.batches import Batch
from mnist_vae.datasets.images import IMAGE_SHAPE, UNLABELLED, ImageSet
from mnist_vae.datasets.keras_model import KerasModel
from mnist_vae.datasets.releases import Release
from mnist_vae.params import EvaluationParams, ModelParams, RetrainingParams, SplitParams
from mnist_vae.pipelines.construction.nodes import construct_decoder, construct_encoder
from mnist_vae.sheets import to_base64_png

logger = logging.getLogger(__name__)

FIRST_BATCH_ID = 1_000_000_000
"""`image_id` of the first image that came in a batch; those of the archive are below."""

_BATCH_SIZE = 1024
_MAX_NEIGHBOUR_IMAGES = 10_000  # that the k nearest neighbours are sought among
_CONFIDENCE = 0.95
_NO_INFLUENCE = ("exit_codes", "force", "keep_releases", "webhook_timeout", "webhook_url")


def check_batches(
    incoming_batches: dict[str, Batch],
    batches_in_use: dict[str, Callable[[], ImageSet]],
    train_images: ImageSet,
    validation_images: ImageSet,
    test_images: ImageSet,
    champion: Release | None,
    split_params: SplitParams,
    retraining_params: RetrainingParams,
    seed: int,
) -> tuple[dict[str, ImageSet], dict[str, Any], dict[str, Any]]:
    """Part good batches from bad ones.

    A batch is bad when it cannot be read, holds a constant image, an image of the test split, the
    same image twice, or one that is in use already; and, where `drift_blocks`, when it drifted.

    Args:
        incoming_batches: The batches that no successful run has used, by name.
        batches_in_use: The images of earlier batches.
        train_images: Those of the archive, float32 `[n, 784]` in [0, 1].
        validation_images: Alike.
        test_images: Alike.
        champion: The model that drift is measured with.
        split_params: Its `validation_fraction` is the share of new images for validation.
        retraining_params: The threshold of drift.
        seed: Seed of the draws of z.

    Returns:
        The images of good batches, uint8 `[n, 28, 28]`, split `train` or `validation` by their
        content; the reasons of bad ones, by name; and the intake: what became of each batch.
    """
    accepted: dict[str, ImageSet] = {}
    bad: dict[str, Any] = {}
    intake: dict[str, Any] = {}
    known: set[bytes] = set()
    tested: set[bytes] = set()
    next_id = FIRST_BATCH_ID
    # Read when the first good batch comes, and once for all of them.
    serving = cache(lambda filename: champion.load(filename) if champion else None)
    if incoming_batches:
        earlier = {name: load() for name, load in batches_in_use.items()}
        for images in (train_images, validation_images, *earlier.values()):
            known.update(_hashes(images.grey()))
        tested.update(_hashes(test_images.grey()))
        next_id += sum(len(images) for images in earlier.values())
    for name, batch in sorted(incoming_batches.items()):
        key = f"{name}.{batch.digest()}"
        if key in batches_in_use:  # by a run that was killed before it could confirm it
            intake[name] = {"outcome": "in use", "images": len(batches_in_use[key]())}
            continue
        reasons, drift = _reasons(batch, known, tested), None
        if batch.images is not None and champion is not None and not reasons:
            drift = _drift(batch.images, serving, seed)
            drift["drifted"] = drift["p_value"] < retraining_params.drift_p_value
            if drift["drifted"] and retraining_params.drift_blocks:
                reasons.append(
                    f"it has drifted from the training data: expected p >= "
                    f"{retraining_params.drift_p_value}, received {drift['p_value']:.2g}"
                )
        if batch.images is None or reasons:
            bad[name] = {"reasons": reasons, "drift": drift}
            intake[name] = {"outcome": "bad", **bad[name]}
            continue
        hashes = _hashes(batch.images)
        known.update(hashes)
        accepted[key] = _in_use(batch, hashes, next_id, split_params.validation_fraction)
        next_id += len(hashes)
        intake[name] = {"outcome": "accepted", "images": len(hashes), "drift": drift}
    for name, record in intake.items():
        logger.info("Batch %s: %s.", name, record["outcome"])
    return accepted, bad, intake


def plan_retraining(
    data_manifest: dict[str, Any],
    batches_in_use: dict[str, Callable[[], ImageSet]],
    batch_intake: dict[str, Any],
    champion: Release | None,
    declined_fingerprints: list[str],
    parameters: dict[str, Any],
    retraining_params: RetrainingParams,
) -> dict[str, Any]:
    """Return whether there is anything to train, and the fingerprint of what would be.

    Args:
        data_manifest: The checksums of the archive.
        batches_in_use: All batches in use, those just accepted too.
        batch_intake: What became of the batches of this run.
        champion: Its fingerprint need not be trained again.
        declined_fingerprints: Nor need these.
        parameters: All parameters; those that no model depends on do not count.
        retraining_params: `force` trains in any case.

    Returns:
        `fingerprint` of code, parameters and data, each of the three too; `outcome`, which is
        `nothing_new` or `bad_data` where the run is over, else None; the `reason`; and what to
        `start` from.
    """
    values = {
        name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        for name, value in parameters.items()
        if ":" not in name
    }
    values["retraining"] = {
        name: value for name, value in values["retraining"].items() if name not in _NO_INFLUENCE
    }
    values.pop("source", None)  # where images come from; the data's part has which they are
    files = {name: file["sha256"] for name, file in data_manifest["files"].items()}
    parts = {
        "code": code_fingerprint(),
        "parameters": json_fingerprint(values),
        "data": json_fingerprint([files, sorted(batches_in_use)]),
    }
    fingerprint = json_fingerprint(parts)
    judged = [champion.manifest["fingerprint"]] if champion else []
    outcome, reason = None, "code, parameters or data are new"
    if retraining_params.force:
        reason = "it was asked for (`retraining.force`)"
    elif fingerprint in judged or fingerprint in declined_fingerprints:
        bad = [name for name, record in batch_intake.items() if record["outcome"] == "bad"]
        whose = "those in service" if fingerprint in judged else "those of a candidate declined"
        outcome = "bad_data" if bad else "nothing_new"
        reason = f"code, parameters and data are {whose}"
        if bad:
            reason = f"all new batches are bad ({', '.join(bad)}), and {reason}"
    logger.info("%s: %s.", "Training a candidate" if outcome is None else "No training", reason)
    return {
        "fingerprint": fingerprint,
        "parts": parts,
        "outcome": outcome,
        "reason": reason,
        "start": retraining_params.start,
    }


def extend_splits(
    retraining_plan: dict[str, Any],
    train_images: ImageSet,
    validation_images: ImageSet,
    batches_in_use: dict[str, Callable[[], ImageSet]],
    data_manifest: dict[str, Any],
) -> tuple[ImageSet, ImageSet, dict[str, Any]]:
    """Return training and validation images with those of all batches in use, and the manifest.

    The test images stay those of the archive.

    Args:
        retraining_plan: Its fingerprint goes into the manifest.
        train_images: Those of the archive, float32 `[n, 784]` in [0, 1].
        validation_images: Alike.
        batches_in_use: uint8 images, split `train` or `validation`.
        data_manifest: Where the archive's images came from.
    """
    batches = {name: load() for name, load in sorted(batches_in_use.items())}
    extended = [
        _concatenate(images, split, batches.values())
        for images, split in ((train_images, "train"), (validation_images, "validation"))
    ]
    n_new = sum(len(images) for images in batches.values())
    manifest = {
        **data_manifest,
        "fingerprint": retraining_plan["fingerprint"],
        "batches": {name: len(images) for name, images in batches.items()},
    }
    if batches:
        many = f"{len(batches)} batches" if len(batches) > 1 else "a batch"
        manifest["statement"] += f" And {n_new:,} images of {many} that came later."
    return extended[0], extended[1], manifest


def start_networks(
    retraining_plan: dict[str, Any],
    champion: Release | None,
    model_params: ModelParams,
    seed: int,
) -> tuple[KerasModel, KerasModel]:
    """Return encoder and decoder to start from: new ones, or with the weights in service.

    Args:
        retraining_plan: What to `start` from.
        champion: Whose weights are taken where it says so.
        model_params: The architecture.
        seed: Seed of new weights, and of the encoder's draws.

    Raises:
        ValueError: The champion has another architecture.
    """
    encoder, decoder = construct_encoder(model_params, seed), construct_decoder(model_params, seed)
    if retraining_plan["start"] == "champion" and champion is not None:
        for network in (encoder, decoder):
            weights = champion.load(f"{network.name}.keras").trainable_weights
            expected = [tuple(weight.shape) for weight in network.trainable_weights]
            received = [tuple(weight.shape) for weight in weights]
            if received != expected:
                raise ValueError(
                    f"The {network.name} in service cannot be gone on from: expected weights of "
                    f"the shapes {expected} as the `model` parameters say, received {received}; "
                    "set `retraining.start` to scratch."
                )
            for weight, value in zip(network.trainable_weights, weights, strict=True):
                weight.assign(value)
    return encoder, decoder


def judge_candidate(
    retraining_plan: dict[str, Any],
    champion: Release | None,
    encoder: KerasModel,
    decoder: KerasModel,
    training_summary: dict[str, Any],
    metrics: dict[str, Any],
    latent_embeddings: pd.DataFrame,
    test_images: ImageSet,
    evaluation_params: EvaluationParams,
    retraining_params: RetrainingParams,
    seed: int,
) -> dict[str, Any]:
    """Compare candidate and champion on the same test images, with the same noise.

    Args:
        retraining_plan: The fingerprint that the candidate is of.
        champion: The model in service.
        encoder: The candidate's.
        decoder: The candidate's.
        training_summary: The candidate's.
        metrics: The candidate's.
        latent_embeddings: The candidate's.
        test_images: float32 `[n, 784]` in [0, 1]; neither model was trained on them.
        evaluation_params: Draws of z.
        retraining_params: What a candidate must do.
        seed: Seed of the draws of z, the same for both.

    Returns:
        `outcome` (`promoted` or `kept`), the `reason`, the `checks` one by one, all figures, and
        what `ReleaseDataset.save` needs to carry it out. `gain` is the mean over the images of the
        champion's −ELBO less the candidate's, in nats, `gain_interval` its 95 % interval.

    Raises:
        ValueError: Champion and candidate cannot be compared.
    """
    check_models(training_summary, encoder, decoder)
    test_digest = test_images.digest()
    candidate = {
        "negative_elbo": metrics["splits"]["test"]["negative_elbo"],
        "active_units": metrics["splits"]["test"]["active_units"],
        "accuracy": _label_accuracy(latent_embeddings, retraining_params.neighbours),
    }
    figures: dict[str, Any] = {"candidate": candidate, "champion": None, "gain": None}
    units: float = min(retraining_params.min_active_units, metrics["latent_dim"])
    if champion is None:
        checks = _first_checks(candidate, retraining_params)
    else:
        _check_comparable(champion, training_summary, test_digest)
        champion_metrics = champion.load("metrics.json")
        term, draws = training_summary["reconstruction"], evaluation_params.z_samples
        networks = (champion.load("encoder.keras"), champion.load("decoder.keras"))
        before = _score(*networks, test_images, term, draws, seed)
        after = _score(encoder, decoder, test_images, term, draws, seed)
        gains = before - after
        gain = float(gains.mean())
        error = NormalDist().inv_cdf(0.5 + _CONFIDENCE / 2) * float(gains.std(ddof=1))
        error /= len(gains) ** 0.5
        figures["champion"] = {
            "negative_elbo": float(before.mean()),
            "active_units": champion_metrics["splits"]["test"]["active_units"],
            "accuracy": _label_accuracy(
                champion.load("latent_embeddings.parquet"), retraining_params.neighbours
            ),
        }
        candidate["negative_elbo"] = float(after.mean())
        figures |= {"gain": gain, "gain_interval": [gain - error, gain + error]}
        share = retraining_params.min_active_share * figures["champion"]["active_units"]
        units = max(units, share)
        checks = _checks_beside_champion(figures, retraining_params)
    checks.append(
        _check("active latent dimensions", candidate["active_units"], ">=", units, "{:g}")
    )
    failed = [check["what"] for check in checks if not check["passed"]]
    version = training_summary["model_version"]
    reason = f"it failed: {', '.join(failed)}" if failed else "it passed every check"
    logger.info(
        "Candidate %s is %s: %s. %s",
        version,
        "kept out of service" if failed else "promoted",
        reason,
        "; ".join(check["sentence"] for check in checks),
    )
    return {
        "outcome": "kept" if failed else "promoted",
        "action": "decline" if failed else "promote",
        "reason": reason,
        "checks": checks,
        **figures,
        "test_images": len(test_images),
        "model_version": version,
        "fingerprint": retraining_plan["fingerprint"],
        "previous": champion.name if champion else None,
        "keep": retraining_params.keep_releases,
        "record": {"test_images": test_digest, "parts": retraining_plan["parts"], **figures},
    }


def write_report(
    retraining_decision: dict[str, Any],
    retraining_plan: dict[str, Any],
    batch_intake: dict[str, Any],
    champion: Release | None,
    training_summary: dict[str, Any],
    generated_sheet: Image.Image,
    latent_manifold: Image.Image,
    reconstruction_sheet: Image.Image,
    interpolations: Image.Image,
) -> str:
    """Return one HTML page: the decision, why, every figure, old and new pictures side by side."""
    decision = retraining_decision
    promoted = decision["outcome"] == "promoted"
    version, previous = decision["model_version"], decision["previous"]
    verdict = "is in service" if promoted else "was not put in service"
    rows = [
        [check["what"], check["received"], check["expected"], "yes" if check["passed"] else "NO"]
        for check in decision["checks"]
    ]
    columns = ["candidate"] + (["champion"] if champion else [])
    figures = [
        [label, *(form.format(decision[column][name]) for column in columns)]
        for name, label, form in (
            ("negative_elbo", "−ELBO, nats an image, test", "{:.2f}"),
            ("accuracy", "label accuracy of z", "{:.3f}"),
            ("active_units", "active latent dimensions", "{:.0f}"),
        )
        if decision["candidate"][name] is not None
    ]
    batches = [
        [
            name,
            record["outcome"],
            record.get("images", ""),
            _describe_drift(record.get("drift")),
            "; ".join(record.get("reasons", [])),
        ]
        for name, record in batch_intake.items()
    ]
    pictures = []
    for filename, picture in (
        ("generated_sheet.png", generated_sheet),
        ("reconstruction_sheet.png", reconstruction_sheet),
        ("latent_manifold.png", latent_manifold),
        ("interpolations.png", interpolations),
    ):
        old = [champion.load(filename)] if champion else []
        names = ["before", "candidate"] if champion else ["candidate"]
        pictures.append(
            "<div class='pair'>"
            + "".join(
                f"<figure><img alt='{filename}' src='data:image/png;base64,{to_base64_png(shown)}'>"
                f"<figcaption>{name}</figcaption></figure>"
                for name, shown in zip(names, [*old, picture], strict=True)
            )
            + "</div>"
        )
    gain = ""
    if decision["gain"] is not None:
        low, high = decision["gain_interval"]
        gain = (
            f"<p>On the same {decision['test_images']:,} test images "
            f"with the same noise the candidate is better by {decision['gain']:.3f} nats an image "
            f"(95 % interval {low:.3f} to {high:.3f}).</p>"
        )
    return _PAGE.format(
        title=f"Candidate {version} {verdict}",
        colour="#0a7d32" if promoted else "#b35900",
        reason=html.escape(decision["reason"].capitalize()),
        previous=html.escape(previous or "none"),
        gain=gain,
        checks=_table(["check", "received", "expected", "passed"], rows),
        figures=_table(["figure", *columns], figures),
        batches=_table(["batch", "outcome", "images", "drift", "reasons"], batches)
        if batches
        else "<p>No new batch.</p>",
        why=html.escape(retraining_plan["reason"]),
        fingerprint=decision["fingerprint"],
        statement=html.escape(training_summary["statement"]),
        pictures="".join(pictures),
    )


def carry_out(
    retraining_decision: dict[str, Any], _report: str, run_manifest: dict[str, Any]
) -> dict[str, Any]:
    """Return the decision, to be carried out now that report and manifest are saved too."""
    record = {**retraining_decision["record"], "git_commit": run_manifest["git_commit"]}
    return {**retraining_decision, "record": record}


def roll_back(champion: Release | None) -> dict[str, Any]:
    """Return the decision to put the release before `champion` back in service.

    Raises:
        ValueError: There is no champion, or none before it.
    """
    if champion is None or champion.manifest["previous"] is None:
        received = "no release" if champion is None else f"{champion.name}, the first one"
        raise ValueError(
            "There is no release to go back to: expected one in service with another before it, "
            f"received {received}; run `kedro run --pipelines retraining` to train another."
        )
    return {
        "outcome": "rolled_back",
        "action": "roll_back",
        "reason": f"{champion.manifest['previous']} is in service again, instead of "
        f"{champion.name}",
        "previous": champion.name,
    }


def _reasons(batch: Batch, known: set[bytes], tested: set[bytes]) -> list[str]:
    """Return what is wrong with the content of a batch, a sentence each."""
    if batch.images is None:
        return [batch.problem or "it holds no images"]
    reasons = []
    flat = batch.images.reshape(len(batch.images), -1)
    hashes = _hashes(batch.images)
    for what, rows in (
        ("constant", flat.min(axis=1) == flat.max(axis=1)),
        ("in the test split", np.array([value in tested for value in hashes])),
        ("in use already", np.array([value in known for value in hashes])),
    ):
        if rows.any():
            found = np.flatnonzero(rows)
            reasons.append(
                f"{len(found)} of {len(flat)} images are {what}: expected none, received the "
                f"images at {_few(found)}"
            )
    if len(set(hashes)) < len(hashes):
        reasons.append(
            f"some images are there twice: expected {len(hashes)} different ones, received "
            f"{len(set(hashes))}"
        )
    return reasons


def _few(rows: NDArray[np.intp], most: int = 5) -> str:
    shown = ", ".join(str(row) for row in rows[:most])
    return shown if len(rows) <= most else f"{shown} and {len(rows) - most} more"


def _hashes(pixels: NDArray[np.uint8]) -> list[bytes]:
    """Return a hash of each image's bytes."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    return [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]


def _in_use(
    batch: Batch, hashes: list[bytes], first_id: int, validation_fraction: float
) -> ImageSet:
    """Return the images of a batch, each in the split that its content says, now and for ever."""
    assert batch.images is not None  # noqa: S101 - the caller has looked
    shares = np.array([int.from_bytes(value[:4], "big") / 2**32 for value in hashes])
    return ImageSet(
        pixels=batch.images,
        image_id=np.arange(first_id, first_id + len(hashes)),
        split=np.where(shares < validation_fraction, "validation", "train"),
        label=batch.labels,
    )


def _concatenate(images: ImageSet, split: str, batches: Iterable[ImageSet]) -> ImageSet:
    parts = [batch.take(np.flatnonzero(batch.split == split)) for batch in batches]
    if not any(len(part) for part in parts):
        return images
    parts = [images, *parts]
    labels = [
        np.full(len(part), UNLABELLED, np.uint8) if part.label is None else part.label
        for part in parts
    ]
    grey = np.concatenate([part.grey() for part in parts])
    return ImageSet(
        pixels=grey.reshape(-1, *IMAGE_SHAPE),
        image_id=np.concatenate([part.image_id for part in parts]),
        split=np.full(len(grey), split),
        label=None if all(part.label is None for part in parts) else np.concatenate(labels),
    )


def _drift(images: NDArray[np.uint8], serving: Callable[[str], Any], seed: int) -> dict[str, Any]:
    """Compare new images with the champion's validation images, as the champion sees both.

    `serving` loads a file of the champion.

    Two-sample Kolmogorov-Smirnov tests of −ELBO and of every dimension of z's mean; the smallest
    p-value times their number (Bonferroni). Validation images are of the training data, but the
    model was not fitted to them: beside its training images all new ones would look worse.
    """
    from scipy.stats import ks_2samp

    from mnist_vae.vae.model import score_batches

    embeddings = serving("latent_embeddings.parquet")
    reference = embeddings[embeddings["split"] == "validation"]
    new = ImageSet(images, np.arange(len(images)), np.full(len(images), "new"))
    terms = list(
        score_batches(
            serving("encoder.keras"),
            serving("decoder.keras"),
            (batch.model_input() for batch in new.batches(_BATCH_SIZE)),
            reconstruction=serving("training_summary.json")["reconstruction"],
            seed=seed,
        )
    )
    z_mean = np.concatenate([term.z_mean for term in terms])
    elbo = np.concatenate([term.reconstruction + term.kl for term in terms])
    pairs = {"negative_elbo": (elbo, reference["reconstruction"] + reference["kl"])}
    for dimension in range(z_mean.shape[1]):
        name = f"z_mean_{dimension:02d}"
        pairs[name] = (z_mean[:, dimension], reference[name])
    tests = {name: ks_2samp(new_values, old) for name, (new_values, old) in pairs.items()}
    return {
        "p_value": min(1.0, len(tests) * min(float(test.pvalue) for test in tests.values())),
        "statistics": {name: round(float(test.statistic), 4) for name, test in tests.items()},
        "negative_elbo": float(elbo.mean()),
    }


def _score(
    encoder: KerasModel,
    decoder: KerasModel,
    images: ImageSet,
    reconstruction: str,
    draws: int,
    seed: int,
) -> NDArray[np.float64]:
    """Return −ELBO of each image in nats, the mean over draws of z."""
    from mnist_vae.vae.model import score_batches

    totals = np.zeros(len(images))
    for draw in range(draws):
        terms = score_batches(
            encoder,
            decoder,
            (batch.model_input() for batch in images.batches(_BATCH_SIZE)),
            reconstruction=reconstruction,
            seed=seed + draw,
        )
        totals += np.concatenate([term.reconstruction + term.kl for term in terms])
    return totals / draws


def _label_accuracy(embeddings: pd.DataFrame, neighbours: int) -> float | None:
    """Return the share of test images whose label is that of most of their neighbours in z.

    The neighbours are sought among the first labelled training images of the archive; None
    without labels.
    """
    from sklearn.neighbors import KNeighborsClassifier

    if "label" not in embeddings.columns:
        return None
    labelled = embeddings[
        embeddings["label"].notna() & (embeddings["image_id"] < FIRST_BATCH_ID)
    ].sort_values("image_id")
    train = labelled[labelled["split"] == "train"].head(_MAX_NEIGHBOUR_IMAGES)
    test = labelled[labelled["split"] == "test"]
    if train.empty or test.empty:
        return None
    columns = [name for name in embeddings.columns if name.startswith("z_mean_")]
    classifier = KNeighborsClassifier(min(neighbours, len(train)))
    classifier.fit(train[columns].to_numpy(), train["label"].to_numpy())
    return float(classifier.score(test[columns].to_numpy(), test["label"].to_numpy()))


def _check_comparable(
    champion: Release, training_summary: dict[str, Any], test_digest: str
) -> None:
    expected = {
        "test images": champion.manifest["test_images"],
        "reconstruction term": champion.load("training_summary.json")["reconstruction"],
    }
    received = {
        "test images": test_digest,
        "reconstruction term": training_summary["reconstruction"],
    }
    for what, value in expected.items():
        if received[what] != value:
            raise ValueError(
                f"The candidate cannot be compared with the model in service: expected the same "
                f"{what}, {value}, received {received[what]}; set back what changed it, or move "
                f"the link {champion.folder.parent.parent / 'champion'} away so that the next "
                "candidate is judged as a first one."
            )


def _first_checks(candidate: dict[str, Any], params: RetrainingParams) -> list[dict[str, Any]]:
    checks = [
        _check(
            "−ELBO of the first model, nats",
            candidate["negative_elbo"],
            "<=",
            params.first_max_negative_elbo,
            "{:.2f}",
        )
    ]
    if candidate["accuracy"] is not None:
        checks.append(
            _check(
                "label accuracy of the first model's z",
                candidate["accuracy"],
                ">=",
                params.first_min_accuracy,
                "{:.3f}",
            )
        )
    return checks


def _checks_beside_champion(
    figures: dict[str, Any], params: RetrainingParams
) -> list[dict[str, Any]]:
    checks = [
        _check("gain, nats an image", figures["gain"], ">", params.min_gain, "{:.3f}"),
        _check("lower end of its 95 % interval", figures["gain_interval"][0], ">", 0.0, "{:.3f}"),
    ]
    new, old = figures["candidate"]["accuracy"], figures["champion"]["accuracy"]
    if new is not None and old is not None:
        checks.append(
            _check(
                "label accuracy of z", new, ">=", max(0.0, old - params.max_accuracy_drop), "{:.3f}"
            )
        )
    return checks


def _check(what: str, received: float, sign: str, bound: float, form: str) -> dict[str, Any]:
    passed = {">": received > bound, ">=": received >= bound, "<=": received <= bound}[sign]
    texts = {"received": form.format(received), "expected": f"{sign} {form.format(bound)}"}
    sentence = f"{what}: {texts['received']}, expected {texts['expected']}"
    return {"what": what, **texts, "passed": bool(passed), "sentence": sentence}


def _describe_drift(drift: dict[str, Any] | None) -> str:
    if drift is None:
        return ""
    return f"{'drifted' if drift['drifted'] else 'none'}, p = {drift['p_value']:.2g}"


def _table(head: list[str], rows: list[list[Any]]) -> str:
    def line(cells: list[Any], tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells)

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><tr>{line(head, 'th')}</tr>{body}</table>"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; }}
h1 {{ color: {colour}; font-size: 1.5em; }}
table {{ border-collapse: collapse; margin: 1em 0; }}
th, td {{ border: 1px solid #ccc; padding: 4px 10px; text-align: left; }}
th {{ background: #f3f3f3; }}
.pair {{ display: flex; gap: 1em; align-items: flex-start; margin: 1em 0; }}
figure {{ margin: 0; flex: 1; min-width: 0; }}
img {{ width: 100%; }}
figcaption {{ text-align: center; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{reason}. The release before: {previous}. A candidate was trained as {why}.</p>
{gain}
{checks}
{figures}
<h2>Batches of this run</h2>
{batches}
<h2>Pictures</h2>
{pictures}
<p>{statement} Fingerprint of code, parameters and data: {fingerprint}.</p>
</body>
</html>
"""
