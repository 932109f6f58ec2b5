"""What the journal of a job tells of all its runs so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt
from pydantic import ValidationError as NotALine

from mnist_vae.jobs.records import Outcome

_MAX_BYTES = 2**20  # of a line; what is longer is none of ours

# What a person asked for says nothing of whether the schedule works.
_NO_SUCCESS = {
    Outcome.FAILED,
    Outcome.BAD_DATA,
    Outcome.STALLED,
    Outcome.ROLLED_BACK,
    Outcome.WITHDRAWN,
}
_ENDS_A_ROW = {Outcome.PROMOTED, Outcome.ROLLED_BACK}
_KEPT_OUT = {Outcome.KEPT, Outcome.STALLED}


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True)

    negative_elbo: float


class Line(BaseModel):
    """What the figures need of a line of the journal; it has more."""

    model_config = ConfigDict(frozen=True)

    outcome: str
    started: AwareDatetime
    seconds: NonNegativeFloat = 0.0
    batches: dict[str, str] | None = None
    """What became of each batch, by name; a run that failed before it looked may tell of none."""
    candidate: _Figures | None = None
    gain: float | None = None
    """Nats an image."""
    images: NonNegativeInt = 0
    """Those that were scored."""
    anomalous_images: NonNegativeInt | None = None
    """Those of them that are anomalies; None where the model has no threshold."""

    @property
    def ended(self) -> float:
        """When the run ended, in seconds since 1970."""
        return self.started.timestamp() + self.seconds

    @property
    def succeeded(self) -> bool:
        """Whether the run did what it is scheduled for; a part of the pipeline decides nothing."""
        decided = self.outcome != Outcome.KEPT or self.candidate is not None
        return decided and self.outcome not in _NO_SUCCESS


@dataclass(frozen=True)
class History:
    """What there is to say after a number of runs.

    Attributes:
        last_success: When the last run that succeeded ended, in seconds since 1970; 0 for never.
        kept_in_a_row: Candidates that were kept out since the last promotion or rollback.
        images_scored: In all runs.
        anomalous_images: Those of them that are anomalies.
        candidate: −ELBO of the last candidate on the judge's images, nats an image.
        gain: By how much it was better than the model in service, nats an image.
        batches: The outcome of each batch, in the last run that looked at batches.
    """

    last_success: float = 0.0
    kept_in_a_row: int = 0
    images_scored: int = 0
    anomalous_images: int = 0
    candidate: float | None = None
    gain: float | None = None
    batches: Mapping[str, str] = field(default_factory=dict)

    def after(self, line: Line) -> History:
        """Return the history with one more run; one that was locked out counts for nothing.

        Runs with nothing to train on, failed ones and withdrawals neither lengthen nor end the
        row of candidates that were kept out.
        """
        if line.outcome == Outcome.LOCKED:
            return self
        succeeded, candidate = line.succeeded, line.candidate
        looked = bool(line.batches) or succeeded
        return History(
            last_success=line.ended if succeeded else self.last_success,
            kept_in_a_row=self._kept_in_a_row(line),
            images_scored=self.images_scored + line.images,
            anomalous_images=self.anomalous_images + (line.anomalous_images or 0),
            candidate=candidate.negative_elbo if candidate else self.candidate,
            gain=line.gain if candidate else self.gain,
            batches=self.batches if line.batches is None or not looked else line.batches,
        )

    def _kept_in_a_row(self, line: Line) -> int:
        if line.outcome in _ENDS_A_ROW:
            return 0
        kept = line.outcome in _KEPT_OUT and line.candidate is not None
        return self.kept_in_a_row + kept


def read_history(journal: Path, line: Line) -> History:
    """Return what the journal tells, up to the run of `line`, whether that is in it or not.

    All of it is read, a line at a time: the last success may be far back, and the images scored
    must not become fewer.

    Raises:
        OSError: It is there and cannot be read.
    """
    history, last = History(), None
    for last in _lines(journal):
        history = history.after(last)
    return history if last == line else history.after(line)


def _lines(journal: Path) -> Iterator[Line]:
    """Return the lines that are whole: a full disk leaves half of one."""
    try:
        file = journal.open("rb")
    except FileNotFoundError:
        return
    with file:
        for text in iter(partial(file.readline, _MAX_BYTES), b""):
            try:
                yield Line.model_validate_json(text)
            except NotALine:
                continue
