"""Parameters of what a trained model is used for."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveInt, model_validator

from mnist_vae.params.group import Fraction, Group

Corruption = Literal["gaussian", "salt_and_pepper", "masking", "blur"]
"""What `pipelines.denoising.corruptions` makes of an image."""
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)

_SOME = Field(strict=False, max_length=20)
Shares = Annotated[tuple[Fraction, ...], _SOME]
AnomalyScore = Literal["negative_elbo", "excess", "relative_excess", "mahalanobis"]


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
    """Measure what takes minutes on the full data too: where the loss is, and what refined
    inference gains."""
    likelihood_images: PositiveInt | None = 10_000
    """Images of each split that a thorough evaluation takes the loss apart for, class by class;
    None for all."""
    refine_steps: Annotated[int, Field(ge=1, le=1000)] = 30
    """Gradient steps to the best Gaussian of each image (`vae.inference.Refiner`)."""
    importance_samples: Annotated[int, Field(ge=1, le=5000)] = 500
    """Draws of the importance-weighted bound, where z has too many dimensions for a grid."""


class EmbeddingParams(Group):
    """How the embeddings are written (`embedding`)."""

    batch_size: PositiveInt = 1024
    """Images at a time."""
    refine_steps: Annotated[int, Field(ge=0, le=1000)] = 0
    """Gradient steps that refine the encoder's q of each image (`vae.inference.Refiner`): better
    embeddings, for some ten times the time; 0 for the encoder's own."""
    engine: Literal["in_process", "dask"] = "in_process"
    """Where images are encoded, in the scoring too (`engines`)."""
    workers: PositiveInt | None = None
    """Processes of an engine that the run starts on this machine; None for one a core."""
    threads: PositiveInt = 1
    """Threads of TensorFlow in each process of an engine."""
    address: str | None = None
    """Of a Dask scheduler that runs already, such as `tcp://host:8786`; None to start one."""
    scratch: str | None = None
    """Folder that every worker can read at the same path; None for the temporary folder of this
    machine."""

    @model_validator(mode="after")
    def _engine_is_one(self) -> EmbeddingParams:
        asked = {name: getattr(self, name) for name in ("workers", "address", "scratch")}
        given = ", ".join(name for name, value in asked.items() if value)
        if self.engine == "in_process" and given:
            raise ValueError(
                f"`{given}` is for an engine with workers: expected `engine` to be dask, received "
                "in_process"
            )
        if self.workers and self.address:
            raise ValueError(
                "a cluster that runs has its own workers: expected `workers` or `address`, "
                f"received {self.workers} and {self.address}"
            )
        return self


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
    """Where z is drawn from: N(0, I), a Gaussian mixture fitted on z of the training images, or one
    for each class."""
    label: Annotated[int, Field(ge=0, lt=255)] | None = None
    """The class to generate; None for all. It takes the class mixture."""
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
    """Images of the scatter in the model report at most, each shown where one points at it: some 60
    bytes of the page an image."""


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
    evidence: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Weight of what the noisy pixel itself says about the clean one, next to the decoder: 1 if
    pixels were black or white, 0 for the decoder alone."""
    gaussian: Annotated[tuple[Annotated[float, Field(gt=0, le=10)], ...], _SOME] = (0.25, 0.5, 0.75)
    """Levels of Gaussian noise: its σ, in grey values of 0 to 1."""
    salt_and_pepper: Shares = (0.1, 0.25, 0.5)
    """Shares of pixels that are made black or white."""
    masking: Shares = (0.25, 0.5)
    """Shares of pixels that are made black."""
    blur: Annotated[tuple[Annotated[float, Field(gt=0, le=28)], ...], _SOME] = (1.0, 2.0)
    """σ of the blur, in pixels."""

    @model_validator(mode="after")
    def _levels_of_noise(self) -> DenoisingParams:
        for kind in CORRUPTIONS:
            levels = getattr(self, kind)
            if len(set(levels)) < len(levels):
                raise ValueError(
                    f"each level is restored once: expected different ones of `{kind}`, received "
                    f"{list(levels)}"
                )
        if not self.corruptions():
            raise ValueError(
                "there is nothing to restore: expected a level of one kind at least, received none"
            )
        return self

    def corruptions(self) -> list[tuple[Corruption, float]]:
        """Return each kind with each of its levels."""
        return [(kind, level) for kind in CORRUPTIONS for level in getattr(self, kind)]

    def shown(self, kind: Corruption) -> float:
        """Return the level of a kind that is drawn: the one in the middle."""
        levels: tuple[float, ...] = getattr(self, kind)
        return sorted(levels)[(len(levels) - 1) // 2]
