"""Where z should come from: how near the images of each sampler are to real ones.

    python benchmarks/samples.py FOLDER [--seeds 42 43 44] [--small]

For each seed it trains, on the IDX files in FOLDER, models of 2 (default recipe) and of 20 latent
dimensions (60 epochs), and a small classifier whose last hidden layer gives the features of an
image. Every set of images is compared with the same test images and is as large as theirs, five
times over, with other draws. Two sets are there to compare with: training images, and decoded draws
of their posteriors, which are what a perfect sampler of z would give. The JSON line has for each
set the mean over the seeds and its standard error of:

- `fid`: the Fréchet distance of the Gaussians of the features (Heusel et al., 2017). It is no
  Inception FID, and compares only with those of the same classifier;
- `kid`: the squared maximum mean discrepancy of the features, with the kernel (x·y / d + 1)³,
  unbiased, in blocks of 1,000 (Bińkowski et al., Demystifying MMD GANs, 2018);
- `mmd`: the same of z and draws of the posteriors of test images, with the kernel
  exp(−|x − y|² / (2 d)); training images have no z.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import over_seeds, parser, read_splits, report, say, train_model
from numpy.typing import NDArray

MODELS = {2: 100, 20: 60}  # epochs, by latent dimensions
SAMPLERS = {
    "prior": ("prior", 1.0),
    "prior, temperature 0.8": ("prior", 0.8),
    "mixture": ("mixture", 1.0),
    "class mixture": ("class_mixture", 1.0),
}
COMPONENTS, REPEATS, BLOCK = 50, 5, 1000

Floats = NDArray[np.floating]
Maker = Callable[[int], tuple[Floats | None, NDArray[np.uint8]]]


def train_classifier(images: Any, seed: int, small: bool) -> Any:
    """Return a classifier of labelled images, bytes `[n, 784]` to logits, with a layer `features`.

    Of the MNIST test images it gets 98.8 % right.
    """
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    pixels = keras.Input((784,), dtype="uint8")
    x = layers.Reshape((28, 28, 1))(layers.Rescaling(1 / 255)(pixels))
    x = layers.Conv2D(16, 5, 2, padding="same", activation="relu")(x)
    x = layers.Conv2D(32, 3, 2, padding="same", activation="relu")(x)
    x = layers.Dropout(0.25)(layers.Flatten()(x))
    x = layers.Dense(64, activation="relu", name="features")(x)
    x = layers.Dropout(0.25)(x)
    logits = layers.Dense(int(images.label.max()) + 1)(x)
    model, epochs = keras.Model(pixels, logits), 1 if small else 6
    rate = keras.optimizers.schedules.CosineDecay(0.003, epochs * -(-len(images) // 128))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(images.pixels, images.label, batch_size=128, epochs=epochs, verbose=0)
    return model


def fid(x: Floats, y: Floats) -> float:
    """Return the Fréchet distance of the Gaussians with the moments of features `[n, d]`."""
    one, other = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(one @ other).real, 0))
    apart = np.square(x.mean(0) - y.mean(0)).sum()
    return float(apart + np.trace(one) + np.trace(other) - 2 * roots.sum())


def mmd(x: Floats, y: Floats, kernel: Callable[[Floats, Floats], Floats]) -> float:
    """Return the squared maximum mean discrepancy, unbiased: the mean over blocks of rows."""

    def of_pairs(rows: Floats) -> float:
        values = kernel(rows, rows)
        return float((values.sum() - np.trace(values)) / (len(rows) * (len(rows) - 1)))

    blocks = range(0, len(x), BLOCK)
    pairs = [(x[start : start + BLOCK], y[start : start + BLOCK]) for start in blocks]
    return statistics.fmean(
        of_pairs(a) + of_pairs(b) - 2 * float(kernel(a, b).mean()) for a, b in pairs
    )


def makers_of(model: Any, train_images: Any, n_images: int, seed: int) -> dict[str, Maker]:
    """Return by name what makes a set: the number of a repeat to z, `[n, d]`, and images."""
    from mnist_vae.pipelines.generation.nodes import decode
    from mnist_vae.pipelines.generation.samplers import fit_sampler

    order = np.random.default_rng((seed, 2)).permutation(len(train_images))

    def real(repeat: int) -> Any:
        return train_images.take(order[repeat * n_images :][:n_images])

    def decoded(z: Floats) -> tuple[Floats, NDArray[np.uint8]]:
        return z, decode(model.decoder, z).reshape(len(z), -1)

    def sampled(kind: str, temperature: float) -> Maker:
        how = {"components": COMPONENTS, "seed": seed}
        sampler = fit_sampler(kind, model.encoder, train_images, **how)
        return lambda repeat: decoded(
            sampler.sample(n_images, seed + repeat, temperature=temperature).z
        )

    return {
        "training images": lambda repeat: (None, real(repeat).pixels),
        "posteriors of training images": lambda repeat: decoded(
            posterior_draws(model, real(repeat), (seed, 3, repeat))
        ),
        **{name: sampled(*how) for name, how in SAMPLERS.items()},
    }


def posterior_draws(model: Any, images: Any, seed: Any) -> NDArray[np.float32]:
    """Return a draw of q(z | x) of each image, `[n, latent_dim]`."""
    from mnist_vae.vae.elbo import encode

    z_mean, z_log_var = encode(model.encoder, images.model_input())
    noise = np.random.default_rng(seed).standard_normal(z_mean.shape, np.float32)
    return np.asarray(z_mean + np.exp(z_log_var / 2) * noise, np.float32)


def measure(folder: Path, seed: int, small: bool) -> tuple[float, dict[str, dict[str, Any]]]:
    """Return the accuracy of a seed's classifier, and the figures by model and set."""
    import keras
    from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

    train, validation, test = read_splits(folder, seed, 1000 if small else None)
    classifier = train_classifier(train, seed, small)
    _, accuracy = classifier.evaluate(test.pixels, test.label, verbose=0)
    hidden = keras.Model(classifier.input, classifier.get_layer("features").output)

    def features(grey: NDArray[np.uint8]) -> Floats:
        return np.asarray(hidden.predict(grey, batch_size=1000, verbose=0), np.float64)

    n_images = min(len(test), len(train) // REPEATS)
    test = test.at_most(n_images, seed)
    real = features(test.pixels)
    found: dict[str, dict[str, Any]] = {}
    for latent_dim, epochs in MODELS.items():
        model = train_model(train, validation, seed, latent_dim, epochs, small)
        codes, of_sets = posterior_draws(model, test, (seed, 4)), {}
        for name, make in makers_of(model, train, n_images, seed).items():
            all_z, images = zip(*map(make, range(REPEATS)), strict=True)
            made = [features(grey) for grey in images]
            of_sets[name] = {
                "fid": statistics.fmean(fid(one, real) for one in made),
                "kid": statistics.fmean(mmd(one, real, polynomial_kernel) for one in made),
                "mmd": statistics.fmean(
                    mmd(z, codes, partial(rbf_kernel, gamma=1 / (2 * latent_dim))) for z in all_z
                )
                if all_z[0] is not None
                else None,
            }
            say(f"seed {seed}, latent {latent_dim}, {name}: {of_sets[name]}")
        found[str(latent_dim)] = of_sets
    return float(accuracy), found


def main() -> None:
    """Run the benchmark."""
    command_line = parser(__doc__)
    command_line.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    arguments = command_line.parse_args()
    seeds = arguments.seeds[:1] if arguments.small else arguments.seeds
    measured = [measure(arguments.folder, seed, arguments.small) for seed in seeds]
    accuracies, by_seed = zip(*measured, strict=True)
    results = {
        latent_dim: {
            name: {
                figure: over_seeds([of[latent_dim][name][figure] for of in by_seed])
                for figure, value in figures.items()
                if value is not None
            }
            for name, figures in of_sets.items()
        }
        for latent_dim, of_sets in by_seed[0].items()
    }
    report(
        {
            "benchmark": "samples",
            "seeds": seeds,
            "classifier_accuracy": over_seeds(accuracies),
            "latent_dim": results,
        }
    )


if __name__ == "__main__":
    main()
