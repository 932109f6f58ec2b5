"""Parameters of the jobs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from mnist_vae.params.group import Fraction, Group


class ScoringParams(Group):
    """How batches are embedded, and how many stay on disk (`scoring`)."""

    keep: PositiveInt = 3
    """Models whose embeddings stay on disk; those that readers find always do."""


class RetrainingParams(Group):
    """When a candidate goes in service, and what rolls it back (`retraining`)."""

    start: Literal["scratch", "champion"] = "scratch"
    """Train from new weights, or from those in service."""
    force: bool = False
    """Train even when code, parameters and data are those of a model that was judged before."""
    judge_as_first: bool = False
    """Judge a candidate by the bounds of a first model, where the champion cannot be compared."""
    judge_fraction: Fraction = 0.1
    """Share of the archive's training images that no candidate is trained on: they decide."""
    judge_draws: PositiveInt = 5
    """Draws of z for each of them."""
    seeds: Annotated[int, Field(ge=1, le=20)] = 3
    """Trainings, each with a seed of its own, that a candidate must show its gain with."""
    screen_gain: Annotated[float, Field(ge=0)] = 0.2
    """Nats an image that the first of them must gain, else the others are not run."""
    min_gain: Annotated[float, Field(ge=0)] = 0.5
    """Nats an image by which their mean −ELBO must be lower than the champion's."""
    max_accuracy_drop: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Loss of label accuracy of z (k nearest neighbours) that is tolerated."""
    neighbours: PositiveInt = 15
    """Of the k nearest neighbours, k."""
    min_active_units: NonNegativeInt = 1
    """Latent dimensions that must be in use: with none the code is empty (posterior collapse)."""
    min_active_share: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Of the latent dimensions that the champion uses, the share that the candidate must use."""
    first_max_negative_elbo: Annotated[float, Field(gt=0)] = 200.0
    """Nats an image, on the judge's images, that the first model must not exceed."""
    first_min_accuracy: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Label accuracy of z that the first model must have."""
    drift_effect: Fraction = 0.15
    """A batch has drifted when a figure's distribution is at least this far from that of the
    validation images (Kolmogorov-Smirnov distance, 0 to 1), and"""
    drift_p_value: Fraction = 0.001
    """the p-value of the tests, corrected for their number, is below this."""
    drift_blocks: bool = False
    """Put a batch that has drifted in quarantine, instead of only recording it."""
    stall_after: PositiveInt = 3
    """Candidates in a row, kept out with the same drifted batches, that raise an alarm."""
    keep_releases: PositiveInt = 5
    """Releases that stay on disk; the one in service, the one before it and the one that a person
    took out of service last always do."""
    webhook_timeout: Annotated[float, Field(gt=0)] = 10.0
    """Seconds that telling the webhook may take; its address is a credential."""

    def gate(self) -> dict[str, Any]:
        """Return the rules that a candidate is judged by: under others it may be tried again."""
        values = self.model_dump(mode="json")
        return {name: values[name] for name in _GATE}


_GATE = (
    "judge_as_first",
    "judge_draws",
    "seeds",
    "screen_gain",
    "min_gain",
    "max_accuracy_drop",
    "neighbours",
    "min_active_units",
    "min_active_share",
    "first_max_negative_elbo",
    "first_min_accuracy",
)


class MonitoringParams(Group):
    """Where the jobs write their figures for Prometheus (`monitoring`)."""

    textfile_folder: Annotated[str, Field(pattern="^/")] | None = None
    """The folder that node_exporter's textfile collector reads, which must be there; None for
    `08_reporting/prometheus` in the data folder."""
    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = "mnist_vae"
    """The label `project` of all figures and the start of the files' names: another one for each
    project, or data folder, that shares the folder."""
