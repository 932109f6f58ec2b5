"""Names of models by content, which model an output is of, and what its loss is called."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from mnist_vae import __version__
from mnist_vae.data.images import IMAGE_SHAPE, ClassNames, ImageSet, Shape, size_of
from mnist_vae.data.models import KerasModel

RECIPE_VERSION = 1
"""Raise it with a change that makes other models of the same parameters, seed and images."""

COMMIT = "MNIST_VAE_COMMIT"
"""The environment variable that names the commit where there is no git, as in an image."""

_LIBRARIES = ("keras", "numpy", "tensorflow")
_PACKAGES = (*_LIBRARIES, "kedro", "kedro-datasets", "mlxtend", "pandas", "pyarrow", "scipy")


def fingerprint(*models: Any) -> str:
    """Return 16 hex digits that name the weights of these models: equal weights, equal name."""
    digest = hashlib.sha256()
    for model in models:
        for weight in model.trainable_weights:
            value = np.asarray(weight.value)
            digest.update(f"{model.name}/{value.shape}/{value.dtype}".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()[:16]


def json_fingerprint(value: Any) -> str:
    """Return 16 hex digits that name a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def recipe_fingerprints(**parameters: BaseModel | int | str | float | None) -> dict[str, str]:
    """Return names of the `code`, the `parameters` and the `libraries` that shape a model.

    `parameters` are those that the training reads, such as `model`, `training` and `seed`.
    """
    values = {
        name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        for name, value in parameters.items()
    }
    code = f"recipe {RECIPE_VERSION}"
    return {"code": code, "parameters": json_fingerprint(values), "libraries": _libraries()}


def result_fingerprints() -> dict[str, str]:
    """Return what shapes the figures of a run besides its parameters and its data."""
    code = f"recipe {RECIPE_VERSION}, package {__version__}"
    return {"code": code, "libraries": _libraries()}


def _libraries() -> str:
    return json_fingerprint({name: version(name) for name in _LIBRARIES})


def provenance() -> dict[str, Any]:
    """Return `date` (UTC), `versions` by package and `git_commit`: `<hash>[-dirty]`, or None."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {
            "mnist-vae": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
        "git_commit": os.environ.get(COMMIT) or _git_commit(),
    }


def _git_commit() -> str | None:
    """Return the commit of the repository that tracks this file, whatever other is around it."""
    here = Path(__file__)
    tracked = ["git", "ls-files", "--error-unmatch", here.name]
    described = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        for command in (tracked, described):
            finished = subprocess.run(  # noqa: S603 - the user's own git
                command, cwd=here.parent, capture_output=True, encoding="utf-8", check=True
            )
        return finished.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def origin(training_summary: dict[str, Any]) -> dict[str, str]:
    """Return `model_version` and, of a release, `release`: metadata of every output of a model."""
    names = ("model_version", "release")
    return {name: training_summary[name] for name in names if training_summary.get(name)}


@dataclass(frozen=True)
class ImageForm:
    """What the images of a model have in common, which new ones must have too."""

    shape: Shape = IMAGE_SHAPE
    class_names: ClassNames = None
    inverted: bool = False
    """Whether pictures were made dark where they were light."""


MNIST_FORM = ImageForm()


def image_form(training_summary: dict[str, Any]) -> ImageForm:
    """Return the form of the images that the model was trained on."""
    height, width = training_summary.get("image_shape", IMAGE_SHAPE)
    names = training_summary.get("class_names")
    return ImageForm(
        shape=(height, width),
        class_names=None if names is None else tuple(names),
        inverted=training_summary.get("inverted", False),
    )


def statement(training_summary: dict[str, Any]) -> str:
    """Return the caption of every sheet and figure: the model's data, and its release."""
    said: str = training_summary["statement"]
    release = training_summary.get("release")
    return f"{said} Release {release}." if release else said


def check_models(training_summary: dict[str, Any], *models: KerasModel) -> None:
    """Raise `ValueError` where an encoder or decoder is not of the training of the summary."""
    for model in models:
        expected, received = training_summary["weights"][model.name], fingerprint(model)
        if received != expected:
            raise ValueError(
                f"The {model.name} does not belong to the training summary: expected the weights "
                f"{expected}, received {received}; run `kedro run --pipelines training`."
            )


def check_images(
    training_summary: dict[str, Any],
    train_images: ImageSet,
    validation_images: ImageSet | None = None,
) -> None:
    """Raise `ValueError` where the model was trained on other images or splits."""
    for name, images in (("train", train_images), ("validation", validation_images)):
        if images is None:
            continue
        check_shape(training_summary, images.shape)
        expected, received = training_summary["images"][name], images.digest()
        if received != expected:
            raise ValueError(
                f"The {name} images changed after the model was trained: expected {expected}, "
                f"received {received}; run `kedro run --pipelines training` on them, or embed them "
                "with the pipeline `embedding_of_new_images`."
            )


def check_shape(training_summary: dict[str, Any], shape: Shape) -> None:
    """Raise `ValueError` where images have another shape than the model takes."""
    if shape != (expected := image_form(training_summary).shape):
        raise ValueError(
            f"The images have another shape than those that the model was trained on: expected "
            f"{size_of(expected)} pixels, received {size_of(shape)}; scale the images, or train a "
            "model on such images with `kedro run`."
        )


def check_versions(
    problem: str, versions: Iterable[str], training_summary: dict[str, Any], remedy: str
) -> None:
    """Raise `ValueError` where the versions found, each once, are not that of the summary alone.

    `problem` begins its sentence, such as "The scores are of another model"; `remedy` ends it.
    """
    expected, received = training_summary["model_version"], list(versions)
    if received != [expected]:
        raise ValueError(
            f"{problem}: expected those of {expected}, received those of {', '.join(received)}; "
            f"{remedy}."
        )


@dataclass(frozen=True)
class Measure:
    """What the loss of a model is called; `unit` and `note`, on how to read it, may be empty."""

    name: str
    unit: str
    note: str = ""

    @property
    def words(self) -> str:
        """The name with the unit."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    @property
    def an_image(self) -> str:
        """What follows the name of a difference or of a part of the loss: its unit, or nothing."""
        return f", {self.unit} an image" if self.unit else ""


_MEASURES = {
    "binary_crossentropy": Measure("−ELBO", "nats"),
    "mse": Measure(
        "squared error + KL",
        "",
        "The reconstruction term is a squared error, Σ (x − x̂)², and not the nats of Bernoulli "
        "pixels: with KL it is −ELBO of a Gaussian of variance ½ a pixel but for a constant, "
        "log π / 2 a pixel, so it compares with models of the same term alone.",
    ),
}


def measure(reconstruction: str) -> Measure:
    """Return what the loss of a model with this reconstruction term is called."""
    return _MEASURES[reconstruction]
