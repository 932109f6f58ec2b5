"""What the nodes and commands of the jobs tell one another: frozen, typed, JSON at rest."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum, auto
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Outcome(StrEnum):
    """How a run of a job ended."""

    PROMOTED = auto()
    """The candidate is in service."""
    KEPT = auto()
    """The candidate was not better: the model in service stays."""
    STALLED = auto()
    """Kept, and not for the first time with the same drifted batches: a person should look."""
    NOTHING_NEW = auto()
    """What could be trained was judged before, or what could be embedded is."""
    ROLLED_BACK = auto()
    """The release before, or the one that a person named, is in service again."""
    WITHDRAWN = auto()
    """Batches are no longer in use."""
    SCORED = auto()
    """Batches were embedded, or the embeddings of another model are those to read."""
    BAD_DATA = auto()
    """All that is new is in quarantine; of batches to embed, some of it."""
    FAILED = auto()
    """The run could not do its work, or there is no model in service."""
    LOCKED = auto()
    """Another run is under way."""

    @property
    def exit_code(self) -> int:
        """That of the command."""
        return {"failed": 1, "bad_data": 65, "stalled": 66, "locked": 75}.get(self, 0)


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

    def __str__(self) -> str:
        farthest = max(self.distances, key=self.distances.__getitem__)
        p_value = f"p = {self.p_value:.2g}" if self.p_value else "p < 1e-300"
        return f"{self.effect:.3f} of {farthest}, {p_value}"


BatchOutcome = Literal["accepted", "in use", "withdrawn", "embedded", "bad", "unfinished"]


class BatchRecord(Record):
    """What became of one incoming batch."""

    outcome: BatchOutcome
    images: int | None = None
    anomalous_images: int | None = None
    """Of those that were embedded; None where the model has no threshold."""
    drift: Drift | None = None
    reasons: tuple[str, ...] = ()
    signature: str = ""
    """That of its folder when it was read: a folder that changes after that is not moved."""


class Intake(Record):
    """What became of the batches that a run has looked at, by name."""

    batches: dict[str, BatchRecord] = {}

    def effects(self) -> dict[str, float]:
        """Return how far the batches are that have drifted, by name."""
        return {
            name: record.drift.effect
            for name, record in self.batches.items()
            if record.drift is not None and record.drift.drifted
        }

    @property
    def embedded_images(self) -> int:
        """The images of the batches that were embedded."""
        return sum(one.images or 0 for one in self.batches.values() if one.outcome == "embedded")

    @property
    def anomalous_images(self) -> int | None:
        """Those of them that are anomalies; None where the model has no threshold."""
        found = [one.anomalous_images for one in self.batches.values()]
        numbers = [number for number in found if number is not None]
        return sum(numbers) if numbers else None


class Plan(Record):
    """Whether there is anything to train, and what."""

    fingerprint: str
    """Of all that shapes the candidate: its recipe and its data."""
    parts: dict[str, str]
    """The fingerprint of each: `code`, `parameters`, `libraries`, `data`."""
    gate: str
    """Fingerprint of the rules that the candidate will be judged by."""
    outcome: Outcome | None
    """How the run ends here, or None where a candidate is trained."""
    reason: str
    started_from: str | None = None
    """The release whose weights the candidate starts from, or None for new ones."""


class ScoringPlan(Record):
    """Which model embeds, and whether there is anything to do."""

    model: str
    """The name of its folder of embeddings: that of the release, or `model_version`."""
    release: str | None
    """The release, or None where the last trained model is in use."""
    model_version: str
    outcome: Literal[Outcome.NOTHING_NEW] | None
    """How the run ends here, or None where it continues."""
    reason: str
    new: tuple[str, ...]
    """The names of the files that it will write, without a suffix."""
    how: str
    """Fingerprint of the calibration and the refinement that it embeds with."""
    done: int
    """Batches that it has embedded already."""
    shown: str | None
    """The model whose embeddings readers find, if any."""


class Scored(Record):
    """How a scoring ended."""

    outcome: Literal[Outcome.SCORED, Outcome.NOTHING_NEW, Outcome.BAD_DATA]
    reason: str
    complete: bool
    """Whether it has embedded all batches that are there, so that readers may find it."""


class Check(Record):
    """One thing that a candidate must do."""

    what: str
    received: str
    expected: str
    passed: bool


class Figures(Record):
    """What a model reaches on the judge's images, which it was not trained on."""

    negative_elbo: float
    """Nats an image."""
    active_units: int
    accuracy: float | None = None
    """Label accuracy of z, None without labels."""


class Comparison(Record):
    """What a candidate and the model in service reach on the judge's images."""

    model_version: str
    candidate: Figures
    champion: Figures | None = None
    """None where the candidate is judged as a first one."""
    previous: str | None = None
    """The release in service when the candidate was judged."""
    gains: tuple[float, ...] = ()
    """The champion's −ELBO less the candidate's, nats an image: one for each seed."""
    gain: float | None = None
    """Their mean."""
    gain_interval: tuple[float, float] | None = None
    """The 95 % interval of `gain` over the judge's images."""
    judge_images: int
    judge_digest: str
    reconstruction: str = "binary_crossentropy"
    """The reconstruction term of both."""


class Decision(Comparison):
    """Whether the candidate goes in service, and why."""

    outcome: Literal[Outcome.PROMOTED, Outcome.KEPT, Outcome.STALLED, Outcome.FAILED]
    reason: str
    checks: tuple[Check, ...]
    fingerprint: str
    gate: str
    drifted: dict[str, float] = {}
    """How far each batch is that it was trained on, that drifted, and that the champion lacks."""


class Run(Record):
    """A run of a job, as the journal and the last line have it, without what it did not come to."""

    model_config = ConfigDict(extra="ignore", frozen=True)  # lines of other versions are read too

    outcome: Outcome
    exit_code: int
    run_id: str
    started: str
    """ISO 8601, UTC."""
    reason: str
    seconds: float
    peak_memory_mb: int
    champion: str | None = None
    """The `model_version` in service at its end."""
    fingerprint: str | None = None
    repaired: str | None = None
    adopted: str | None = None
    """The release whose promotion was killed half way."""
    batches: dict[str, BatchOutcome] = {}
    drifted: dict[str, float] = {}
    release: str | None = None
    """That embedded; `model_version` is its model, or the candidate."""
    model_version: str | None = None
    images: int | None = None
    anomalous_images: int | None = None
    candidate: Figures | None = None
    compared_with: Figures | None = None
    gain: float | None = None
    gains: tuple[float, ...] = ()
    gain_interval: tuple[float, float] | None = None


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


def kept_in_a_row(
    declined: list[Declined], champion: str | None, drifted: Collection[str]
) -> tuple[int, list[str]]:
    """Return how many candidates in a row `champion` kept out, and the drifted batches of them all.

    `declined` is oldest first; `drifted` is that of the candidate at hand, which is not counted.
    """
    common = set(drifted)
    count = 0
    for one in reversed(declined):
        if one.rolled_back or one.champion != champion or not common & set(one.drifted):
            break
        common &= set(one.drifted)
        count += 1
    return count, sorted(common)
