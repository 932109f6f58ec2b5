"""What the nodes, datasets and hooks of a retraining tell one another: frozen, typed, JSON at rest.

A hook knows what it looks at by the type of the record, and not by the name of a catalog entry.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt


class Outcome(StrEnum):
    """How a run of the job ended. Each has an exit code (`retraining.exit_codes`)."""

    PROMOTED = "promoted"
    """The candidate is in service."""
    KEPT = "kept"
    """The candidate was not better: the model in service stays."""
    STALLED = "stalled"
    """Kept, and not for the first time with the same drifted batches: a person should look."""
    NOTHING_NEW = "nothing_new"
    """What could be trained was judged before."""
    ROLLED_BACK = "rolled_back"
    """The release before is in service again."""
    WITHDRAWN = "withdrawn"
    """Batches are no longer in use."""
    BAD_DATA = "bad_data"
    """All that is new is in quarantine."""
    FAILED = "failed"
    """The run could not do its work, or there is no model in service."""
    LOCKED = "locked"
    """Another run is under way."""


class Record(BaseModel):
    """The base of all records."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Drift(Record):
    """How far a batch is from what the model in service knows."""

    drifted: bool
    effect: float
    """The largest Kolmogorov-Smirnov distance of any figure, from 0 to 1."""
    p_value: float
    """Of the smallest of the tests, corrected for their number."""
    distances: dict[str, float]
    """The distance of each figure: `negative_elbo`, `z_mean_00`, ..."""
    negative_elbo: float
    """Nats an image, the mean over the batch."""


class BatchRecord(Record):
    """What became of one incoming batch."""

    outcome: Literal["accepted", "in use", "bad", "unfinished"]
    images: int | None = None
    drift: Drift | None = None
    reasons: tuple[str, ...] = ()


class Intake(Record):
    """What became of the incoming batches of this run, by name, and of those put aside before.

    A batch that an earlier run put in quarantine and did not live to report is among them.
    """

    batches: dict[str, BatchRecord] = {}


class Promote(Record):
    """The order to put the candidate in service."""

    outcome: Literal[Outcome.PROMOTED] = Outcome.PROMOTED
    reason: str
    model_version: str
    fingerprint: str
    """Of the recipe and the data that the candidate was trained with."""
    keep: PositiveInt
    """Releases, and candidates declined, that stay on disk."""
    facts: dict[str, Any] = {}
    """What else its `release.json` tells."""


class Decline(Record):
    """The order to put the candidate aside; the model in service stays."""

    outcome: Literal[Outcome.KEPT, Outcome.STALLED, Outcome.FAILED] = Outcome.KEPT
    reason: str
    model_version: str
    fingerprint: str
    keep: PositiveInt
    gate: str | None = None
    """Fingerprint of the rules that it did not pass: under other rules it may be tried again."""
    drifted: tuple[str, ...] = ()
    """The batches that it was trained on, that drifted, and that the model in service is without."""
    facts: dict[str, Any] = {}


class RollBack(Record):
    """The order to put an earlier release in service, and to decline the one that is."""

    outcome: Literal[Outcome.ROLLED_BACK] = Outcome.ROLLED_BACK
    reason: str
    to: str
    """Name of the release to put in service."""


Order = Promote | Decline | RollBack


class Declined(Record):
    """A candidate that did not go in service, or a release that a person took out of it."""

    fingerprint: str
    release: str
    """The name of its folder."""
    champion: str | None = None
    """The release in service when it was declined, or None where there was none."""
    rolled_back: bool = False
    gate: str | None = None
    drifted: tuple[str, ...] = ()


class Repair(Record):
    """What was done about a damaged release in service."""

    damaged: str
    """Its name."""
    in_service: str | None
    """The release that took its place, or None where no other could serve."""
    sentence: str
