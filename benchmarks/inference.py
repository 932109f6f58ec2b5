"""What refined inference gains and costs, and the exact likelihood, on the test images.

    python benchmarks/inference.py FOLDER [--small]

For `latent_dim` 2 and 20 it trains a model by `kedro run --pipelines training` on the IDX files in
FOLDER, in a project of its own. One JSON line has for each number of steps: −ELBO (nats an image,
ten draws of z, the same noise for all), the share of the amortisation gap that is closed (the gap
to the best of all numbers of steps), and images a second, the median of five rounds in which all
numbers of steps take turns; with two dimensions also −log p(x), the seconds that it took, and the
greatest difference between an image's sum and that with twice the step.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import copy_project, kedro, median, parser, read_images, report, say, trained_models

STEPS = [5, 10, 15, 20, 30, 100]
ROUNDS = 5


def train(folder: Path, latent_dim: int, small: bool) -> tuple[Any, Any]:
    """Return encoder and decoder of a training with the default recipe."""
    params = {"source.folder": folder.resolve(), "model.latent_dim": latent_dim}
    if small:
        params |= {"training.epochs": 1, "split.max_images": 1000}
    text = ",".join(f"{key}={value}" for key, value in params.items())
    with tempfile.TemporaryDirectory() as temporary:
        project = copy_project(Path(temporary))
        run = kedro(project, "run", "--pipelines=training", "--params", text, timeout=7200)
        if run.returncode != 0:
            raise RuntimeError(f"The training ended with {run.returncode}: {run.stderr}")
        return trained_models(project / "data")


def measure(encoder: Any, decoder: Any, pixels: Any, steps: list[int]) -> dict[str, Any]:
    """Return the figures of one model."""
    from mnist_vae.vae.elbo import encode, negative_elbo
    from mnist_vae.vae.inference import FEW_DIMENSIONS, Refiner
    from mnist_vae.vae.likelihood import exact_log_likelihood

    start = encode(encoder, pixels)
    refiners = {count: Refiner(decoder, steps=count, seed=1) for count in steps}
    refined = {count: refiner(pixels, start) for count, refiner in refiners.items()}
    seconds: dict[int, list[float]] = {count: [] for count in steps}
    for _ in range(ROUNDS):
        for count, refiner in refiners.items():
            began = time.perf_counter()
            refiner(pixels, encode(encoder, pixels))
            seconds[count].append(time.perf_counter() - began)
    losses = {
        count: negative_elbo(
            decoder, pixels, q, reconstruction="binary_crossentropy", draws=10, seed=2
        ).mean()
        for count, q in {0: start, **refined}.items()
    }
    gap = losses[0] - min(losses.values())
    figures: dict[str, Any] = {
        "n_images": len(pixels),
        "negative_elbo": {str(count): round(loss, 3) for count, loss in losses.items()},
        "closed": {str(count): round((losses[0] - losses[count]) / gap, 4) for count in steps},
        "images_per_second": {
            str(count): round(len(pixels) / median(seconds[count]), 1) for count in steps
        },
    }
    if decoder.input_shape[-1] <= FEW_DIMENSIONS:
        began = time.perf_counter()
        exact = exact_log_likelihood(decoder, pixels)
        figures |= {
            "negative_log_likelihood": round(float(-exact.log_likelihood.mean()), 4),
            "exact_seconds": round(time.perf_counter() - began, 1),
            "quadrature_error": float(exact.error.max()),
        }
    return figures


def main() -> None:
    """Run the benchmark."""
    command_line = parser(__doc__)
    command_line.add_argument("--latent-dims", type=int, nargs="+", default=[2, 20])
    arguments = command_line.parse_args()
    _, test = read_images(arguments.folder)
    pixels = (test[: 300 if arguments.small else None] / np.float32(255)).astype(np.float32)
    latent_dims = arguments.latent_dims[:1] if arguments.small else arguments.latent_dims
    steps = STEPS[:2] if arguments.small else STEPS
    results = {}
    for latent_dim in latent_dims:
        models = train(arguments.folder, latent_dim, arguments.small)
        results[str(latent_dim)] = measure(*models, pixels, steps)
        say(f"latent_dim {latent_dim}: {results[str(latent_dim)]}")
    report({"benchmark": "inference", "latent_dim": results})


if __name__ == "__main__":
    main()
