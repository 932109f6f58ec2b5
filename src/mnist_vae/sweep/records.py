"""What the rooms of a sweep exchange."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

DEFAULT = "default"
"""The name of the setting that changes nothing."""


class SweepError(ValueError):
    """A sweep is not what it should be; nothing of it was started."""


@dataclass(frozen=True)
class Setting:
    """Parameters that a sweep compares with others.

    Attributes:
        name: What tables call it.
        values: By their whole names, such as `model.latent_dim`.
    """

    name: str
    values: dict[str, Any]


@dataclass(frozen=True)
class RunOrder:
    """One `kedro run` of a sweep.

    Attributes:
        setting: The name of its setting.
        seed: Its seed.
        project: The folder of the project.
        folder: Where all that it writes goes: `data`, and the log beside it.
        raw: The raw images, which all runs share.
        env: Kedro's environment; None for the usual one.
        pipelines: The pipelines.
        params: What is given to the run by `--params`, nested.
        fingerprint: Of all that has a say in its result.
        variables: Of the process, beside those that it inherits.
    """

    setting: str
    seed: int
    project: Path
    folder: Path
    raw: Path
    env: str | None
    pipelines: tuple[str, ...]
    params: dict[str, Any]
    fingerprint: str
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """Where its data are, as `data` of the project is laid out."""
        return self.folder / "data"


@dataclass(frozen=True)
class Figures:
    """What a run reached.

    Attributes:
        splits: Of `validation` and `test`: `negative_elbo`, `reconstruction` (distortion) and `kl`
            (rate), nats an image.
        reconstruction_term: In which the figures are.
        validation_images: A digest of the images that they are of.
        model_version: The name of the weights.
        epochs: That were trained.
        training_seconds: That they took.
    """

    splits: dict[str, dict[str, float]]
    reconstruction_term: str
    validation_images: str
    model_version: str
    epochs: int
    training_seconds: float


@dataclass(frozen=True)
class RunResult:
    """How one run of a sweep ended.

    Attributes:
        setting: The name of its setting.
        seed: Its seed.
        folder: Where its data are.
        state: `done` or `failed`.
        figures: What it reached, if it is done.
        last_line: What it said last, if it failed.
        earlier: Whether the result is one of an earlier command, and was not made again.
    """

    setting: str
    seed: int
    folder: Path
    state: Literal["done", "failed"]
    figures: Figures | None = None
    last_line: str | None = None
    earlier: bool = False
