"""Typed parameters: what `conf/*/parameters_*.yml` may hold, with ranges and defaults.

Kedro makes each `params:<group>` input from the model that the node's annotation names, before
any node runs. `Parameters` is the whole of it, so that a key that no group knows is refused too.
What a parameter is, its comment in `conf/base/parameters*.yml` says; those of no such file have it
here.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Source = Literal["folder", "mirrors", "sample"]
AnomalyScore = Literal["negative_elbo", "excess", "relative_excess", "mahalanobis"]
Corruption = Literal["gaussian", "salt_and_pepper", "masking", "blur"]
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)
_OF_PICTURES = {"image_size", "invert", "max_bad"}
_SOME = Field(strict=False, max_length=20)
Shares = Annotated[tuple[Fraction, ...], _SOME]


def _height_and_width(value: Any) -> Any:
    """Return 64 as (64, 64) and "32x20" as (32, 20): Kedro parts a list in `--params` at commas."""
    if isinstance(value, str) and re.fullmatch(r"\d+ ?[x×] ?\d+", value):
        return [int(side) for side in re.split("[x×]", value)]
    return (value, value) if isinstance(value, int) else value


Side = Annotated[int, Field(ge=1, le=1024)]
ImageSize = Annotated[tuple[Side, Side], Field(strict=False), BeforeValidator(_height_and_width)]


class Group(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False, strict=True):
    """Parameters that are known, of their type, and never changed."""


class SourceParams(Group):
    """Where the raw images come from (`--params source...` alone; its home is `globals.yml`)."""

    # Nothing may be the default, but not be given.
    folder: str = Field(default=None, min_length=1)  # type: ignore[assignment]
    """The folder of the raw images; the only source, where it is given."""
    order: Annotated[tuple[Source, ...], Field(min_length=1, strict=False)] | None = None
    """The sources, in the order in which they are tried."""
    pictures: str = Field(default=None, min_length=1)  # type: ignore[assignment]
    """A folder of pictures; the only source, where it is given."""
    image_size: ImageSize | None = (28, 28)
    """What pictures are scaled to: 64, or height and width as 32x20; None for their own size."""
    invert: bool = False
    """Make dark what is light in pictures, for those on a white background."""
    max_bad: Share = 0.01
    """Share of the files in the folder of pictures that may be left out, as they are damaged."""

    @model_validator(mode="after")
    def _one_source(self) -> SourceParams:
        given = self.model_fields_set
        if given >= {"folder", "pictures"}:
            raise ValueError("expected `folder` or `pictures`, received both")
        if "pictures" not in given and (others := sorted(given & _OF_PICTURES)):
            raise ValueError(f"expected `pictures` for `{', '.join(others)}`, received none")
        return self


class StreamingParams(Group):
    """Which images are mapped into memory (`--params streaming...`; its home is `globals.yml`)."""

    above_images: NonNegativeInt | None = None
    """Sets of more images than this are mapped from a file; 0 maps all, None none."""


class SplitParams(Group):
    """How the images are split (`split`)."""

    validation_fraction: Fraction = 0.05
    test_fraction: Fraction = 0.1
    max_images: Annotated[int, Field(ge=100)] | None = None


class ModelParams(Group):
    """The architecture of encoder and decoder (`model`)."""

    latent_dim: Annotated[int, Field(ge=1, le=100)] = 2
    hidden_units: tuple[PositiveInt, ...] = Field(default=(512, 256), min_length=1, strict=False)
    activation: Literal["relu", "leaky_relu", "elu", "gelu", "silu", "selu", "tanh"] = "relu"
    decoder_initialization: Literal["auto", "spread", "glorot"] = "auto"
    reconstruction: Literal["binary_crossentropy", "mse"] = "binary_crossentropy"


class TrainingParams(Group):
    """How the autoencoder is trained (`training`)."""

    epochs: PositiveInt = 100
    batch_size: PositiveInt = 256
    optimizer: Literal["adam", "muon"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 0.003
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = "linear"
    beta_2: Fraction = 0.99
    resample_input: bool = True
    kl_weight: Annotated[float, Field(ge=0)] = 1.0
    kl_warmup_epochs: NonNegativeInt = 0
    refine_steps: Annotated[int, Field(ge=0, le=20)] = 0
    refined_share: Fraction = 0.9
    early_stopping_patience: PositiveInt | None = 20
    jit_compile: bool = True
    steps_per_execution: PositiveInt = 16
    shuffle_images: PositiveInt = 65_536


class EvaluationParams(Group):
    """How the metrics are computed (`evaluation`)."""

    batch_size: PositiveInt = 1024
    z_samples: PositiveInt = 10
    active_unit_threshold: Annotated[float, Field(gt=0)] = 0.01
    neighbours: PositiveInt = 15
    thorough: bool = False
    likelihood_images: PositiveInt | None = 10_000
    refine_steps: Annotated[int, Field(ge=1, le=1000)] = 30
    importance_samples: Annotated[int, Field(ge=1, le=5000)] = 500


class EmbeddingParams(Group):
    """How the embeddings are written (`embedding`)."""

    batch_size: PositiveInt = 1024
    refine_steps: Annotated[int, Field(ge=0, le=1000)] = 0
    engine: Literal["in_process", "dask"] = "in_process"
    workers: PositiveInt | None = None
    threads: PositiveInt = 1
    address: str | None = None

    @model_validator(mode="after")
    def _engine_is_one(self) -> EmbeddingParams:
        given = [name for name in ("workers", "address") if getattr(self, name) is not None]
        if len(given) > (self.engine == "dask"):
            raise ValueError(
                "expected `workers` or `address` with the engine dask alone, and not both, "
                f"received {' and '.join(given)} with {self.engine}"
            )
        return self


class GenerationParams(Group):
    """What is generated and drawn (`generation`)."""

    n_images: Annotated[int, Field(ge=1, le=100_000)] = 100
    grid_columns: Annotated[int, Field(ge=1, le=50)] = 10
    manifold_steps: Annotated[int, Field(ge=2, le=50)] = 20
    interpolation_pairs: Annotated[int, Field(ge=1, le=50)] = 8
    interpolation_steps: Annotated[int, Field(ge=3, le=50)] = 11
    reconstructions: Annotated[int, Field(ge=1, le=100)] = 20
    sampler: Literal["prior", "mixture", "class_mixture"] = "prior"
    label: Annotated[str, Field(strict=False, coerce_numbers_to_str=True)] | None = None
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    mixture_components: Annotated[int, Field(ge=1, le=500)] = 50
    interpolation: Literal["linear", "spherical"] = "linear"

    @model_validator(mode="after")
    def _classes_are_known(self) -> GenerationParams:
        if self.label is not None and self.sampler != "class_mixture":
            raise ValueError(
                f"expected `sampler` to be class_mixture for a `label`, received {self.sampler}"
            )
        return self


class ReportingParams(Group):
    """How the reports are drawn (`reporting`)."""

    max_points: PositiveInt = 10_000
    report_points: Annotated[int, Field(ge=1, le=100_000)] = 70_000


class AnomalyParams(Group):
    """How anomalies are found (`anomaly`)."""

    score: AnomalyScore = "relative_excess"
    false_positive_rate: Fraction = 0.05
    refine_steps: PositiveInt = 20
    neighbours: PositiveInt = 5
    reference_images: PositiveInt = 10_000
    exact: bool = False
    sheet_images: Annotated[int, Field(ge=2, le=200)] = 60


class DenoisingParams(Group):
    """Which noisy images are restored, and how (`denoising`)."""

    max_images: PositiveInt | None = 300
    refine_steps: Annotated[int, Field(ge=0, le=1000)] = 30
    draws: Annotated[int, Field(ge=1, le=1000)] = 16
    evidence: Share = 0.4
    gaussian: Annotated[tuple[Annotated[float, Field(gt=0, le=10)], ...], _SOME] = (0.25, 0.5, 0.75)
    salt_and_pepper: Shares = (0.1, 0.25, 0.5)
    masking: Shares = (0.25, 0.5)
    blur: Annotated[tuple[Annotated[float, Field(gt=0, le=28)], ...], _SOME] = (1.0, 2.0)

    def corruptions(self) -> list[tuple[Corruption, float]]:
        """Return each kind with each of its levels."""
        return [(kind, level) for kind in CORRUPTIONS for level in getattr(self, kind)]

    def shown(self, kind: Corruption) -> float:
        """Return the level of a kind that is drawn: the one in the middle."""
        levels: tuple[float, ...] = getattr(self, kind)
        return sorted(levels)[(len(levels) - 1) // 2]


class ScoringParams(Group):
    """How batches are embedded, and how many stay on disk (`scoring`)."""

    keep: PositiveInt = 3


class GateParams(Group):
    """The rules that a candidate is judged by: under others it may be tried again."""

    judge_as_first: bool = False
    judge_draws: PositiveInt = 5
    seeds: Annotated[int, Field(ge=1, le=20)] = 3
    screen_gain: Annotated[float, Field(ge=0)] = 0.2
    min_gain: Annotated[float, Field(ge=0)] = 0.5
    max_accuracy_drop: Share = 0.02
    neighbours: PositiveInt = 15
    min_active_units: NonNegativeInt = 1
    min_active_share: Share = 0.8
    first_max_negative_elbo: Annotated[float, Field(gt=0)] = 200.0
    first_min_accuracy: Share = 0.5


class RetrainingParams(GateParams):
    """When a candidate goes in service, and what rolls it back (`retraining`)."""

    start: Literal["scratch", "champion"] = "scratch"
    force: bool = False
    judge_fraction: Fraction = 0.1
    drift_effect: Fraction = 0.15
    drift_p_value: Fraction = 0.001
    drift_blocks: bool = False
    stall_after: PositiveInt = 3
    keep_releases: PositiveInt = 5
    webhook_timeout: Annotated[float, Field(gt=0)] = 10.0


class MonitoringParams(Group):
    """Where the jobs write their figures for Prometheus (`monitoring`)."""

    textfile_folder: Annotated[str, Field(pattern="^/")] | None = None
    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = "mnist_vae"


class Parameters(Group):
    """All parameters of a run."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    source: SourceParams = SourceParams()
    streaming: StreamingParams = StreamingParams()
    # Nothing may be the default, but not be given.
    data_folder: Annotated[str, Field(min_length=1)] = None  # type: ignore[assignment]
    """Where all data of the run go (`--params` alone), in place of `data` of `globals.yml`."""
    split: SplitParams
    model: ModelParams
    training: TrainingParams
    evaluation: EvaluationParams
    embedding: EmbeddingParams
    generation: GenerationParams
    denoising: DenoisingParams
    reporting: ReportingParams
    anomaly: AnomalyParams
    retraining: RetrainingParams
    scoring: ScoringParams
    monitoring: MonitoringParams
