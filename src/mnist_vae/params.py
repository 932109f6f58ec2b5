"""Typed parameters: what `conf/*/parameters_*.yml` may hold, with ranges and defaults.

Kedro makes each `params:<group>` input from the model that the node's annotation names, before
any node runs. `Parameters` is the whole of it, so that a key that no group knows is refused too.
"""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

Fraction = Annotated[float, Field(gt=0, lt=1)]
ExitCode = Annotated[int, Field(ge=0, le=255)]
Source = Literal["folder", "mirrors", "sample"]
AnomalyScore = Literal["negative_elbo", "excess", "relative_excess", "mahalanobis"]
Protocol = Literal["one_class", "held_out", "other_data"]

PREVIOUS = "previous"
"""Of `retraining.roll_back_to`: the release before the one in service."""


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class SourceParams(_Group):
    """Where the raw images come from (`--params source...` alone; its home is `globals.yml`)."""

    # Nothing may be the default, but not be given.
    folder: str = Field(default=None, min_length=1)  # type: ignore[assignment]
    """The folder of the raw images; the only source, where it is given."""
    order: Annotated[tuple[Source, ...], Field(min_length=1, strict=False)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> SourceParams:
        named = "folder" in self.model_fields_set
        if named and self.order is not None and "folder" not in self.order:
            raise ValueError(
                "a folder that is named is the only source: expected an `order` with folder in it, "
                f"or none, received the folder {self.folder} and the order {list(self.order)}"
            )
        return self


class SplitParams(_Group):
    """How the images are split (`split`)."""

    validation_fraction: Fraction = 0.05
    """Share of the training part that is set aside for validation, class by class."""
    test_fraction: Fraction = 0.1
    """Share of the archive that becomes the test split when it has none of its own."""
    max_images: Annotated[int, Field(ge=100)] | None = None
    """Use this many images of each part at most, class by class; None for all."""


class ModelParams(_Group):
    """The architecture of encoder and decoder (`model`)."""

    latent_dim: Annotated[int, Field(ge=1, le=100)] = 2
    hidden_units: tuple[PositiveInt, ...] = Field(default=(512, 256), min_length=1, strict=False)
    """Widths of the encoder's hidden layers; the decoder has them in reverse."""
    activation: Literal["relu", "leaky_relu", "elu", "gelu", "silu", "selu", "tanh"] = "relu"
    decoder_initialization: Literal["auto", "spread", "glorot"] = "auto"
    """How the decoder's first layer starts: its units spread over the prior, or all at z = 0;
    `auto` spreads them where the code has at most three dimensions."""
    reconstruction: Literal["binary_crossentropy", "mse"] = "binary_crossentropy"
    """The reconstruction term: Bernoulli cross-entropy or squared error, summed over the pixels."""


class TrainingParams(_Group):
    """How the autoencoder is trained (`training`)."""

    epochs: PositiveInt = 100
    batch_size: PositiveInt = 256
    learning_rate: Annotated[float, Field(gt=0)] = 0.003
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How Adam's learning rate falls from `learning_rate` to 0 over all epochs, if it does."""
    beta_2: Fraction = 0.99
    """Adam's decay of the mean of the squared gradients."""
    resample_input: bool = True
    """Show the encoder Bernoulli draws of the grey values, other ones at every step."""
    kl_weight: Annotated[float, Field(ge=0)] = 1.0
    """β of a β-VAE: above 1 less rate (KL) and more distortion, below 1 the reverse."""
    kl_warmup_epochs: NonNegativeInt = 0
    """Epochs over which the weight of the KL term rises to `kl_weight`."""
    free_bits: Annotated[float, Field(ge=0)] = 0.0
    """Nats of KL that each latent dimension has for nothing."""
    importance_samples: Annotated[int, Field(ge=1, le=100)] = 1
    """Draws of z of the importance-weighted bound; 1 trains on −ELBO itself."""
    early_stopping_patience: PositiveInt | None = 20
    """Stop after this many epochs without a better validation loss; None for never."""
    jit_compile: bool = True
    """Compile the training step with XLA."""
    steps_per_execution: PositiveInt = 16
    """Steps between two returns to Python: more cost less, fewer move the progress bar sooner."""

    @model_validator(mode="after")
    def _one_objective(self) -> TrainingParams:
        weights = (self.kl_weight, self.kl_warmup_epochs, self.free_bits)
        if self.importance_samples > 1 and weights != (1.0, 0, 0.0):
            raise ValueError(
                "the bound of several `importance_samples` has no KL term to weigh: expected "
                "kl_weight, kl_warmup_epochs and free_bits (1, 0, 0), received "
                f"{weights}"
            )
        return self


class EvaluationParams(_Group):
    """How the metrics are computed (`evaluation`)."""

    batch_size: PositiveInt = 1024
    z_samples: PositiveInt = 10
    """Draws of z an image; their mean −ELBO is reported."""
    active_unit_threshold: Annotated[float, Field(gt=0)] = 0.01
    """A latent dimension is active when the variance of its mean over the images exceeds this."""
    neighbours: PositiveInt = 15
    """Of the k nearest neighbours, k: how well z tells the labels apart."""
    thorough: bool = False
    """Measure what takes minutes on the full data too: where the loss is, what refined inference
    gains, the quality of samples."""
    likelihood_images: PositiveInt | None = 10_000
    """Images of each split that a thorough evaluation takes the loss apart for; None for all."""
    refine_steps: Annotated[int, Field(ge=1, le=1000)] = 30
    """Gradient steps to the best Gaussian of each image (`vae.inference.Refiner`)."""
    importance_samples: Annotated[int, Field(ge=1, le=5000)] = 500
    """Draws of the importance-weighted bound, where z has too many dimensions for a grid."""


class EmbeddingParams(_Group):
    """How the embeddings are written (`embedding`)."""

    batch_size: PositiveInt = 1024
    refine_steps: Annotated[int, Field(ge=0, le=1000)] = 0
    """Gradient steps that refine the encoder's q of each image (`vae.inference.Refiner`): better
    embeddings, for some ten times the time; 0 for the encoder's own."""


class GenerationParams(_Group):
    """What is generated and drawn (`generation`)."""

    n_images: Annotated[int, Field(ge=1, le=100_000)] = 100
    grid_columns: Annotated[int, Field(ge=1, le=50)] = 10
    manifold_steps: Annotated[int, Field(ge=2, le=50)] = 20
    interpolation_pairs: Annotated[int, Field(ge=1, le=50)] = 8
    interpolation_steps: Annotated[int, Field(ge=3, le=50)] = 11
    reconstructions: Annotated[int, Field(ge=1, le=100)] = 20
    sampler: Literal["prior", "mixture", "class_mixture"] = "prior"
    """Where z is drawn from: N(0, I), a Gaussian mixture fitted on z of the training images, or one
    for each class."""
    label: Annotated[int, Field(ge=0, lt=255)] | None = None
    """The class to generate; None for all. It takes the class mixture."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Factor of the sampler's standard deviations: below 1 images are more usual and more alike."""
    mixture_components: Annotated[int, Field(ge=1, le=500)] = 50
    """Gaussians of the mixture, at most; the classes of a class mixture share them."""
    interpolation: Literal["linear", "spherical"] = "linear"
    """The way from one z to another: a straight line, or an arc around z = 0."""

    @model_validator(mode="after")
    def _classes_are_known(self) -> GenerationParams:
        if self.label is not None and self.sampler != "class_mixture":
            raise ValueError(
                "a `label` is for the sampler that knows classes: expected `sampler` to be "
                f"class_mixture, received the label {self.label} and the sampler {self.sampler}"
            )
        return self


class ReportingParams(_Group):
    """How the reports are drawn (`reporting`)."""

    max_points: PositiveInt = 10_000
    """Points of the latent scatter at most; more make the page slow."""


class AnomalyParams(_Group):
    """How anomalies are found, and what that is worth (`anomaly`)."""

    score: AnomalyScore = "relative_excess"
    """The score that decides."""
    false_positive_rate: Fraction = 0.05
    """Share of the validation images that the threshold calls anomalies."""
    refine_steps: PositiveInt = 20
    """Steps of the refinement whose gain is the likelihood regret."""
    neighbours: PositiveInt = 5
    """`knn_distance` is that to this neighbour of z_mean among the training images,"""
    reference_images: PositiveInt = 10_000
    """of which so many are taken, class by class. The baseline is fitted to as many."""
    exact: bool = False
    """Add −log p(x) by quadrature, where the model has one or two latent dimensions."""
    sheet_images: Annotated[int, Field(ge=2, le=200)] = 60
    """Images on the sheet, half of them the most and half the least anomalous ones."""
    thorough: bool = False
    """Train the models of `protocols`, some of them for each class: minutes to hours."""
    protocols: Annotated[tuple[Protocol, ...], Field(min_length=1, strict=False)] = (
        "one_class",
        "held_out",
        "other_data",
    )
    """What a thorough run measures beside the model in use."""
    latent_dim: Annotated[int, Field(ge=1, le=100)] = 20
    """Of these models."""
    epochs: PositiveInt = 50
    """Of these models, at most."""
    max_images: Annotated[int, Field(ge=100)] | None = None
    """Train each on this many images at most, class by class; None for all."""


class RetentionParams(_Group):
    """What stays on disk of runs that train (`retention`)."""

    trained_models: PositiveInt | None = 10
    """Trained models, newest first; None for all. What a release, or one of as many run manifests,
    names stays too."""


class ExitCodesParams(_Group):
    """What a retraining says to its scheduler (`retraining.exit_codes`), by outcome."""

    promoted: ExitCode = 0
    kept: ExitCode = 0
    stalled: ExitCode = 66
    nothing_new: ExitCode = 0
    rolled_back: ExitCode = 0
    withdrawn: ExitCode = 0
    failed: ExitCode = 1
    bad_data: ExitCode = 65
    locked: ExitCode = 75


class ScoringExitCodesParams(_Group):
    """What a scoring says to its scheduler (`scoring.exit_codes`), by outcome."""

    scored: ExitCode = 0
    nothing_new: ExitCode = 0
    failed: ExitCode = 1
    bad_data: ExitCode = 65
    locked: ExitCode = 75


class ScoringParams(_Group):
    """How batches are embedded, and how the job tells of it (`scoring`)."""

    keep: PositiveInt = 3
    """Models whose embeddings stay on disk; those that readers find always do."""
    exit_codes: ScoringExitCodesParams = ScoringExitCodesParams()


class RetrainingParams(_Group):
    """When a candidate goes in service, and how the job tells of it (`retraining`)."""

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
    roll_back_to: str = PREVIOUS
    """The release that the pipeline `rollback` puts in service: its whole name, or `previous`."""
    withdraw: tuple[str, ...] = Field(default=(), strict=False)
    """The batches that the pipeline `withdrawal` takes out of use, by name."""
    webhook_timeout: Annotated[float, Field(gt=0)] = 10.0
    """Seconds to wait for the webhook's answer; its address is a credential."""
    exit_codes: ExitCodesParams = ExitCodesParams()

    @field_validator("withdraw", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        """Take one name for a list, and a number for the name: 20240601 is one to YAML."""
        many = value if isinstance(value, list | tuple) else (value,) if value is not None else ()
        return tuple(str(one) if type(one) is int else one for one in many)

    @field_validator("roll_back_to", mode="before")
    @classmethod
    def _number_as_text(cls, value: Any) -> Any:
        """Leave a number to the node, which names the releases: 000010 is 8 to YAML."""
        return str(value) if type(value) in (int, float) else value

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


class MonitoringParams(_Group):
    """Where the jobs write their figures for Prometheus (`monitoring`)."""

    textfile_folder: Annotated[str, Field(pattern="^/")] | None = None
    """The folder that node_exporter's textfile collector reads, which must be there; None for
    `08_reporting/prometheus` in the data folder."""
    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = "mnist_vae"
    """The label `project` of all figures and the start of the files' names: another one for each
    project, or data folder, that shares the folder."""


class Parameters(_Group):
    """All parameters of a run."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    source: SourceParams | None = None
    split: SplitParams
    model: ModelParams
    training: TrainingParams
    evaluation: EvaluationParams
    embedding: EmbeddingParams
    generation: GenerationParams
    reporting: ReportingParams
    anomaly: AnomalyParams
    retention: RetentionParams
    retraining: RetrainingParams
    scoring: ScoringParams
    monitoring: MonitoringParams


class ParameterError(ValueError):
    """A parameter is unknown, missing or out of range."""


def check_parameters(raw: dict[str, Any]) -> Parameters:
    """Return `raw` as typed parameters.

    Raises:
        ParameterError: Naming each wrong key, what is allowed there, and what was received.
    """
    try:
        return Parameters.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(_describe(problem) for problem in error.errors())
        raise ParameterError(f"{problems}; correct conf/*/parameters_*.yml or --params.") from error


def _describe(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        group: Any = Parameters
        for part in problem["loc"][:-1]:
            group = group.model_fields[part].annotation
            group = next((part for part in get_args(group) if part is not NoneType), group)
        return f"Parameter `{key}` is unknown: allowed are {', '.join(group.model_fields)}"
    if problem["type"] == "missing":
        return f"Parameter `{key}` is missing: expected it in one of the parameter files"
    if problem["type"] == "value_error":
        return f"Parameters `{key}` do not go together: {problem['ctx']['error']}"
    expected = problem["msg"][0].lower() + problem["msg"][1:]
    return f"Parameter `{key}` is wrong: {expected}, received {problem['input']!r}"
