"""Parameters that shape a model: its data, its networks, its training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from mnist_vae.params.group import Fraction, Group

Source = Literal["folder", "mirrors", "sample"]


class SourceParams(Group):
    """Where the raw images come from (`--params source...` alone; its home is `globals.yml`)."""

    # Nothing may be the default, but not be given.
    folder: str = Field(default=None, min_length=1)  # type: ignore[assignment]
    """The folder of the raw images; the only source, where it is given."""
    order: Annotated[tuple[Source, ...], Field(min_length=1, strict=False)] | None = None
    """The sources, in the order in which they are tried."""

    @model_validator(mode="after")
    def _one_source(self) -> SourceParams:
        named = "folder" in self.model_fields_set
        if named and self.order is not None and "folder" not in self.order:
            raise ValueError(
                "a folder that is named is the only source: expected an `order` with folder in it, "
                f"or none, received the folder {self.folder} and the order {list(self.order)}"
            )
        return self


class StreamingParams(Group):
    """Which images are mapped into memory (`--params streaming...`; its home is `globals.yml`)."""

    above_images: NonNegativeInt | None = None
    """The pixels of sets of more images than this are mapped from a file, which the system reads as
    need be; 0 for all sets, None for none."""


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
    """How the decoder's first layer starts: its units spread over the prior, or all at z = 0;
    `auto` spreads them where the code has at most three dimensions."""
    reconstruction: Literal["binary_crossentropy", "mse"] = "binary_crossentropy"
    """The reconstruction term: Bernoulli cross-entropy or squared error, summed over the pixels."""


class TrainingParams(Group):
    """How the autoencoder is trained (`training`)."""

    epochs: PositiveInt = 100
    """Epochs at most: early stopping may end the training sooner."""
    batch_size: PositiveInt = 256
    """Images a step."""
    optimizer: Literal["adam", "muon"] = "adam"
    """`muon` takes Muon for the kernels of the decoder's hidden layers, and Adam for all else: a
    lower loss after as many epochs, for more time a step."""
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
    """Steps that refine the encoder's q of each image before the decoder learns from it: a decoder
    for refined inference (`embedding.refine_steps`), for more time a step; 0 for none."""
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
