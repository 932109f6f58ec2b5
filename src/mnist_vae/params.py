"""Typed parameters: what `conf/*/parameters_*.yml` may hold, with ranges and defaults.

Kedro makes each `params:<group>` input from the model that the node's annotation names, before
any node runs. `Parameters` is the whole of it, so that a key that no group knows is refused too.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Source = Literal["folder", "mirrors", "sample"]
AnomalyScore = Literal["negative_elbo", "excess", "relative_excess", "mahalanobis"]
Corruption = Literal["gaussian", "salt_and_pepper", "masking", "blur"]
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)
Side = Annotated[int, Field(ge=1, le=1024)]
_OF_PICTURES = {"image_size", "invert", "max_bad"}
_TWO = Field(strict=False, min_length=2, max_length=2)
_SOME = Field(strict=False, max_length=20)
Shares = Annotated[tuple[Fraction, ...], _SOME]


class Group(BaseModel):
    """Parameters that are known, of their type, and never changed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, strict=True, use_attribute_docstrings=True
    )


class SourceParams(Group):
    """Where the raw images come from (`--params source...` alone; its home is `globals.yml`)."""

    # Nothing may be the default, but not be given.
    folder: str = Field(default=None, min_length=1)  # type: ignore[assignment]
    """The folder of the raw images; the only source, where it is given."""
    order: Annotated[tuple[Source, ...], Field(min_length=1, strict=False)] | None = None
    """The sources, in the order in which they are tried."""
    pictures: str = Field(default=None, min_length=1)  # type: ignore[assignment]
    """A folder of pictures; the only source, where it is given."""
    image_size: Annotated[tuple[Side, ...], _TWO] | None = (28, 28)
    """Height and width that all pictures are scaled to; None for the size that all have."""
    invert: bool = False
    """Make dark what is light in pictures, for those on a white background."""
    max_bad: Share = 0.01
    """Share of the files in the folder of pictures that may be left out, as they are damaged."""

    @model_validator(mode="after")
    def _one_source(self) -> SourceParams:
        given = self.model_fields_set
        if "pictures" in given and (others := sorted(given & {"folder", "order"})):
            raise ValueError(
                "a folder of pictures that is named is the only source: expected no other, "
                f"received `{', '.join(others)}` too"
            )
        if "pictures" not in given and (others := sorted(given & _OF_PICTURES)):
            raise ValueError(
                f"`{', '.join(others)}` is for a folder of pictures: expected `pictures` to name "
                "one, received none"
            )
        if "folder" in given and self.order and "folder" not in self.order:
            raise ValueError(
                "a folder that is named is the only source: expected an `order` with folder in it, "
                f"or none, received the folder {self.folder} and the order {list(self.order)}"
            )
        return self


class StreamingParams(Group):
    """Which images are mapped into memory (`--params streaming...`; its home is `globals.yml`)."""

    above_images: NonNegativeInt | None = None
    """Sets of more images than this are mapped from a file; 0 maps all, None none."""


class SplitParams(Group):
    """How the images are split (`split`)."""

    validation_fraction: Fraction = 0.05
    """Share of the training part that is set aside for validation, class by class."""
    test_fraction: Fraction = 0.1
    """Share of the archive that becomes the test split when it has none of its own."""
    max_images: Annotated[int, Field(ge=100)] | None = None
    """Use this many images of each part at most, class by class; None for all."""


class ModelParams(Group):
    """The architecture of encoder and decoder (`model`)."""

    latent_dim: Annotated[int, Field(ge=1, le=100)] = 2
    """Dimensions of the code z."""
    hidden_units: tuple[PositiveInt, ...] = Field(default=(512, 256), min_length=1, strict=False)
    """Widths of the encoder's hidden layers; the decoder has them in reverse."""
    activation: Literal["relu", "leaky_relu", "elu", "gelu", "silu", "selu", "tanh"] = "relu"
    """Of the hidden layers, by its Keras name."""
    decoder_initialization: Literal["auto", "spread", "glorot"] = "auto"
    """Its first units begin over the prior, or at z = 0; `auto` spreads them up to 3 dimensions."""
    reconstruction: Literal["binary_crossentropy", "mse"] = "binary_crossentropy"
    """The reconstruction term: Bernoulli cross-entropy or squared error, summed over the pixels."""


class TrainingParams(Group):
    """How the autoencoder is trained (`training`)."""

    epochs: PositiveInt = 100
    """Epochs at most: early stopping may end the training sooner."""
    batch_size: PositiveInt = 256
    """Images a step."""
    optimizer: Literal["adam", "muon"] = "adam"
    """`muon` takes Muon for the kernels of the decoder's hidden layers, and Adam for all else."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.003
    """The learning rate at first, of Adam and of Muon."""
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls from `learning_rate` to 0 over all epochs, if it does."""
    beta_2: Fraction = 0.99
    """Adam's decay of the mean of the squared gradients."""
    resample_input: bool = True
    """Show the encoder Bernoulli draws of the grey values, other ones at every step."""
    kl_weight: Annotated[float, Field(ge=0)] = 1.0
    """β of a β-VAE: above 1 less rate (KL) and more distortion, below 1 the reverse."""
    kl_warmup_epochs: NonNegativeInt = 0
    """Epochs over which the weight of the KL term rises to `kl_weight`."""
    refine_steps: Annotated[int, Field(ge=0, le=20)] = 0
    """Steps that refine the encoder's q before the decoder learns from it; 0 for none."""
    refined_share: Fraction = 0.9
    """Share of the loss, where q is refined, that is −ELBO with the refined q."""
    early_stopping_patience: PositiveInt | None = 20
    """Stop after this many epochs without a better validation loss; None for never."""
    jit_compile: bool = True
    """Compile the training step with XLA."""
    steps_per_execution: PositiveInt = 16
    """Steps between two returns to Python: more cost less, fewer move the progress bar sooner."""
    shuffle_images: PositiveInt = 65_536
    """Images that are shuffled at a time, where there are more: 784 bytes of memory each."""


class EvaluationParams(Group):
    """How the metrics are computed (`evaluation`)."""

    batch_size: PositiveInt = 1024
    """Images at a time."""
    z_samples: PositiveInt = 10
    """Draws of z an image; their mean −ELBO is reported."""
    active_unit_threshold: Annotated[float, Field(gt=0)] = 0.01
    """A latent dimension is active when the variance of its mean over the images exceeds this."""
    neighbours: PositiveInt = 15
    """Of the k nearest neighbours, k: how well z tells the labels apart."""
    thorough: bool = False
    """Measure also where the loss is, and what refined inference gains: takes minutes."""
    likelihood_images: PositiveInt | None = 10_000
    """Images of each split that a thorough evaluation measures, class by class; None for all."""
    refine_steps: Annotated[int, Field(ge=1, le=1000)] = 30
    """Gradient steps to the best Gaussian of each image (`vae.inference.Refiner`)."""
    importance_samples: Annotated[int, Field(ge=1, le=5000)] = 500
    """Draws of the importance-weighted bound, where z has too many dimensions for a grid."""


class EmbeddingParams(Group):
    """How the embeddings are written (`embedding`)."""

    batch_size: PositiveInt = 1024
    """Images at a time."""
    refine_steps: Annotated[int, Field(ge=0, le=1000)] = 0
    """Gradient steps that refine the encoder's q: better, for ten times the time; 0 for its own."""
    engine: Literal["in_process", "dask"] = "in_process"
    """Where images are encoded, in the scoring too (`engines`)."""
    workers: PositiveInt | None = None
    """Processes of an engine that the run starts on this machine; None for one a core."""
    threads: PositiveInt = 1
    """Threads of TensorFlow in each process of an engine."""
    address: str | None = None
    """Of a Dask scheduler that runs already, such as `tcp://host:8786`; None to start one."""

    @model_validator(mode="after")
    def _engine_is_one(self) -> EmbeddingParams:
        given = {name: getattr(self, name) for name in ("workers", "address")}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) > (self.engine == "dask"):
            raise ValueError(
                "expected `workers` or `address` with the engine dask alone, and not both, "
                f"received {given} with {self.engine}"
            )
        return self


def _text_of(label: Any) -> Any:
    return str(label) if type(label) is int else label


class GenerationParams(Group):
    """What is generated and drawn (`generation`)."""

    n_images: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Images to generate."""
    grid_columns: Annotated[int, Field(ge=1, le=50)] = 10
    """Columns of the sheet of generated images."""
    manifold_steps: Annotated[int, Field(ge=2, le=50)] = 20
    """Rows and columns of the latent manifold."""
    interpolation_pairs: Annotated[int, Field(ge=1, le=50)] = 8
    """Pairs of test images to walk between."""
    interpolation_steps: Annotated[int, Field(ge=3, le=50)] = 11
    """Images of each walk, its two ends included."""
    reconstructions: Annotated[int, Field(ge=1, le=100)] = 20
    """Test images on the sheet of reconstructions."""
    sampler: Literal["prior", "mixture", "class_mixture"] = "prior"
    """Draw z from N(0, I), a Gaussian mixture of the training images, or one for each class."""
    label: Annotated[str, BeforeValidator(_text_of)] | None = None
    """The class to generate, its name or number; None for all. It takes the class mixture."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Factor of the sampler's standard deviations: below 1 images are more usual, and vary less."""
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


class ReportingParams(Group):
    """How the reports are drawn (`reporting`)."""

    max_points: PositiveInt = 10_000
    """Points of the latent scatter at most; more make the page slow."""
    report_points: Annotated[int, Field(ge=1, le=100_000)] = 70_000
    """Images of the scatter in the model report at most, some 60 bytes of the page each."""


class AnomalyParams(Group):
    """How anomalies are found (`anomaly`)."""

    score: AnomalyScore = "relative_excess"
    """The score that decides."""
    false_positive_rate: Fraction = 0.05
    """Share of the validation images that the threshold calls anomalies."""
    refine_steps: PositiveInt = 20
    """Steps of the refinement whose gain is the likelihood regret."""
    neighbours: PositiveInt = 5
    """`knn_distance` is that to this neighbour of z_mean among the training images,"""
    reference_images: PositiveInt = 10_000
    """of which so many are taken, class by class."""
    exact: bool = False
    """Add −log p(x) by quadrature, where the model has one or two latent dimensions."""
    sheet_images: Annotated[int, Field(ge=2, le=200)] = 60
    """Images on the sheet, half of them the most and half the least anomalous ones."""


class DenoisingParams(Group):
    """Which noisy images are restored, and how (`denoising`)."""

    max_images: PositiveInt | None = 300
    """Restore this many test images at most, class by class; None for all."""
    refine_steps: Annotated[int, Field(ge=0, le=1000)] = 30
    """Gradient steps on the q of each noisy image; 0 leaves the encoder's."""
    draws: Annotated[int, Field(ge=1, le=1000)] = 16
    """Draws of z an image; their mean is the restored image."""
    evidence: Share = 0.4
    """Weight of the noisy pixel itself next to the decoder: 0 for the decoder alone."""
    gaussian: Annotated[tuple[Annotated[float, Field(gt=0, le=10)], ...], _SOME] = (0.25, 0.5, 0.75)
    """Levels of Gaussian noise: its σ, in grey values of 0 to 1."""
    salt_and_pepper: Shares = (0.1, 0.25, 0.5)
    """Shares of pixels that are made black or white."""
    masking: Shares = (0.25, 0.5)
    """Shares of pixels that are made black."""
    blur: Annotated[tuple[Annotated[float, Field(gt=0, le=28)], ...], _SOME] = (1.0, 2.0)
    """σ of the blur, in pixels."""

    def corruptions(self) -> list[tuple[Corruption, float]]:
        """Return each kind with each of its levels."""
        return [
            (kind, level) for kind in CORRUPTIONS for level in dict.fromkeys(getattr(self, kind))
        ]

    def shown(self, kind: Corruption) -> float:
        """Return the level of a kind that is drawn: the one in the middle."""
        levels: tuple[float, ...] = getattr(self, kind)
        return sorted(levels)[(len(levels) - 1) // 2]


class ScoringParams(Group):
    """How batches are embedded, and how many stay on disk (`scoring`)."""

    keep: PositiveInt = 3
    """Models whose embeddings stay on disk; those that readers find always do."""


class GateParams(Group):
    """The rules that a candidate is judged by: under others it may be tried again."""

    judge_as_first: bool = False
    """Judge a candidate by the bounds of a first model, where the champion cannot be compared."""
    judge_draws: PositiveInt = 5
    """Draws of z for each of the judge's images."""
    seeds: Annotated[int, Field(ge=1, le=20)] = 3
    """Trainings, each with a seed of its own, that a candidate must show its gain with."""
    screen_gain: Annotated[float, Field(ge=0)] = 0.2
    """Nats an image that the first of them must gain, else the others are not run."""
    min_gain: Annotated[float, Field(ge=0)] = 0.5
    """Nats an image by which their mean −ELBO must be lower than the champion's."""
    max_accuracy_drop: Share = 0.02
    """Loss of label accuracy of z (k nearest neighbours) that is tolerated."""
    neighbours: PositiveInt = 15
    """Of the k nearest neighbours, k."""
    min_active_units: NonNegativeInt = 1
    """Latent dimensions that must be in use: with none the code is empty (posterior collapse)."""
    min_active_share: Share = 0.8
    """Of the latent dimensions that the champion uses, the share that the candidate must use."""
    first_max_negative_elbo: Annotated[float, Field(gt=0)] = 200.0
    """Nats an image, on the judge's images, that the first model must not exceed."""
    first_min_accuracy: Share = 0.5
    """Label accuracy of z that the first model must have."""


class RetrainingParams(GateParams):
    """When a candidate goes in service, and what rolls it back (`retraining`)."""

    start: Literal["scratch", "champion"] = "scratch"
    """Train from new weights, or from those in service."""
    force: bool = False
    """Train even when code, parameters and data are those of a model that was judged before."""
    judge_fraction: Fraction = 0.1
    """Share of the archive's training images that no candidate is trained on: they decide."""
    drift_effect: Fraction = 0.15
    """Kolmogorov-Smirnov distance from the validation images at which a batch has drifted, if"""
    drift_p_value: Fraction = 0.001
    """the p-value of the tests, corrected for their number, is below this."""
    drift_blocks: bool = False
    """Put a batch that has drifted in quarantine, instead of only recording it."""
    stall_after: PositiveInt = 3
    """Candidates in a row, kept out with the same drifted batches, that raise an alarm."""
    keep_releases: PositiveInt = 5
    """Releases on disk, besides those in service, before it, and taken out of service last."""
    webhook_timeout: Annotated[float, Field(gt=0)] = 10.0
    """Seconds that telling the webhook may take; its address is a credential."""


class MonitoringParams(Group):
    """Where the jobs write their figures for Prometheus (`monitoring`)."""

    textfile_folder: Annotated[str, Field(pattern="^/")] | None = None
    """The folder of node_exporter's textfile collector; None for `08_reporting/prometheus`."""
    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = "mnist_vae"
    """The label `project` of all figures, and the start of the files' names."""


class Parameters(Group):
    """All parameters of a run."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    source: SourceParams | None = None
    streaming: StreamingParams | None = None
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
