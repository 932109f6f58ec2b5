"""What an image's likelihood is: exactly, where z has one or two dimensions, or bounded by draws.

log p(x) = log ∫ p(x | z) p(z) dz with p(z) = N(0, I). All figures are nats.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray
from scipy.special import logsumexp
from tqdm import tqdm

from mnist_vae.vae.inference import FEW_DIMENSIONS, LinearJoint
from mnist_vae.vae.losses import RECONSTRUCTIONS
from mnist_vae.vae.networks import logits_model, reparameterize

Floats = NDArray[np.float64]

_TILE = 25  # points of the grid, per dimension, that are summed together or left out together
_COARSE = 5  # of them, per dimension, stand for the tile when it is chosen: one of five
_NEGLIGIBLE = 25.0  # nats below the greatest coarse point: e^-25 is 1e-11
_HALVINGS = 3  # of the step, at most
_DOUBLINGS = 3  # of the bound, at most
_CELLS = 2**25  # images times tiles, at a time
_BLOCK = 4096  # images at a time,
_POINTS = 2048  # and points, of a grid;
_IMAGES, _DRAWS = 64, 50  # at a time, of the importance-weighted bound


class ExactLikelihood(NamedTuple):
    """log p(x) by quadrature, an image each.

    With it the divergence of any q from the exact posterior is KL(q ‖ p(z | x)) = −ELBO(q) +
    log p(x).
    """

    log_likelihood: Floats
    """log p(x), nats, `[n]`."""
    error: Floats
    """How far the sum with twice the step is from it, nats, `[n]`. The error of the sum itself is
    less: it falls at least with the square of the step."""
    outside: Floats
    """Share of the mass in the tiles at the border of the grid, `[n]`. It bounds what lies
    outside, as long as the density falls there."""


@dataclass(frozen=True)
class Grid:
    """The points of a quadrature over z, in each dimension `step` apart, within ± `bound`."""

    step: float = 0.01
    bound: float = 6.0

    @property
    def tiles(self) -> int:
        """Tiles per dimension; the last one may reach over the bound."""
        return math.ceil(2 * self.bound / (self.step * _TILE))

    def tile(self, place: tuple[int, ...], every: int = 1) -> NDArray[np.float32]:
        """Return the points of the tile at `place`, or every so manieth of each dimension.

        They are `[points, latent_dim]`, those of the last dimension next to each other.
        """
        axes = [self._axis(index, every) for index in place]
        mesh = np.meshgrid(*axes, indexing="ij")
        return np.stack([axis.ravel() for axis in mesh], axis=1).astype(np.float32)

    def _axis(self, index: int, every: int) -> Floats:
        indices = index * _TILE + np.arange(every // 2, _TILE, every)
        return -self.bound + self.step * indices.astype(np.float64)


def exact_log_likelihood(
    decoder: keras.Model,
    pixels: NDArray[np.float32],
    *,
    reconstruction: str = "binary_crossentropy",
    grid: Grid = Grid(),
    tolerance: float = 0.01,
    progress: bool = False,
) -> ExactLikelihood:
    """Return log p(x) of images under a decoder of one or two latent dimensions.

    The integral is a sum over a grid of z. log p(x, z) is linear in x, so that one pass of the
    decoder over the grid serves all images and the rest is a matrix product. Nearly the whole grid
    has nothing to do with an image: a coarse grid, one point in five of each dimension, finds the
    tiles where its log p(x, z) comes within 25 nats of the greatest, and only those are summed.
    Memory is that of a few thousand points and images. Images that have more of their mass at the
    border than the tolerance are summed anew within twice the bound; images whose error is above
    it, as their posterior is narrower than the grid's step, with half the step.

    Args:
        decoder: Maps z to pixels, the sigmoid of its layer `logits`.
        pixels: Grey values in [0, 1], taken as probabilities, float32 `[n, 784]`.
        reconstruction: `binary_crossentropy` or `mse`.
        grid: Its step and bounds.
        tolerance: Nats that the error of an image may be, and share of its mass at the border; step
            and bound are halved and doubled three times at most.
        progress: Show a progress bar on stderr, if it is a terminal.

    Raises:
        ValueError: z has more than two dimensions.
    """
    latent_dim = decoder.input_shape[-1]
    if latent_dim > FEW_DIMENSIONS:
        raise ValueError(
            "The exact likelihood is a sum over a grid of z: expected a model with one or two "
            f"latent dimensions, received one with {latent_dim}; use the importance-weighted bound."
        )
    joint = LinearJoint(logits_model(decoder), reconstruction)
    found = _quadrature(joint, pixels, grid, progress)
    bounds = np.full(len(pixels), grid.bound)
    for _ in range(_DOUBLINGS):
        far = np.flatnonzero(found.outside > tolerance)
        bounds[far] *= 2
        _sum_anew(found, far, joint, pixels, bounds, grid.step, progress)
    for halvings in range(1, _HALVINGS + 1):
        narrow = np.flatnonzero(found.error > tolerance)
        _sum_anew(found, narrow, joint, pixels, bounds, grid.step / 2**halvings, progress)
    if reconstruction == "mse":
        return found._replace(
            log_likelihood=found.log_likelihood - np.square(pixels).sum(axis=1, dtype=np.float64)
        )
    return found


def _sum_anew(
    found: ExactLikelihood,
    rows: NDArray[np.intp],
    joint: LinearJoint,
    pixels: NDArray[np.float32],
    bounds: Floats,
    step: float,
    progress: bool,
) -> None:
    """Replace what was found for the images at `rows`, each within its own bound."""
    for bound in np.unique(bounds[rows]):
        some = rows[bounds[rows] == bound]
        anew = _quadrature(joint, pixels[some], Grid(step, float(bound)), progress)
        for values, better in zip(found, anew, strict=True):
            values[some] = better


def _quadrature(
    joint: LinearJoint, pixels: NDArray[np.float32], grid: Grid, progress: bool
) -> ExactLikelihood:
    together = max(1, _CELLS // grid.tiles**joint.latent_dim)  # images
    parts = [
        _quadrature_at_once(joint, pixels[start : start + together], grid, progress)
        for start in range(0, len(pixels), together)
    ]
    return ExactLikelihood(*map(np.concatenate, zip(*parts, strict=True)))


def _quadrature_at_once(
    joint: LinearJoint, pixels: NDArray[np.float32], grid: Grid, progress: bool
) -> ExactLikelihood:
    latent_dim = joint.latent_dim
    places = list(itertools.product(range(grid.tiles), repeat=latent_dim))
    coarse = [grid.tile(place, _COARSE) for place in places]
    near = np.concatenate([_near(joint, pixels[rows], coarse) for rows in _blocks(len(pixels))])
    sums = _Sums(len(pixels))
    for number in tqdm(
        np.flatnonzero(near.any(axis=0)), "exact likelihood", disable=None if progress else True
    ):
        place, of_tile = places[number], np.flatnonzero(near[:, number])
        weights, offsets = joint(grid.tile(place))
        at_the_border = min(place) == 0 or max(place) == grid.tiles - 1
        parts = np.stack(
            [np.ones(len(offsets)), _every_second(place), np.full(len(offsets), at_the_border)], 1
        )
        for block in _blocks(len(of_tile)):
            rows = of_tile[block]
            sums.add(rows, pixels[rows] @ weights.T + offsets, parts.astype(np.float32))
    everything, every_second, border = sums.log()
    # The prior's constant, and the area that a point stands for.
    volume = latent_dim * (math.log(grid.step) - 0.5 * math.log(2 * math.pi))
    coarser = every_second + latent_dim * math.log(2)
    return ExactLikelihood(
        everything + volume, np.abs(coarser - everything), np.exp(border - everything)
    )


def _near(
    joint: LinearJoint,
    pixels: NDArray[np.float32],
    tiles: list[NDArray[np.float32]],
) -> NDArray[np.bool_]:
    """Return which tiles matter to which images, `[n, tiles]`, by their coarse points."""
    greatest = np.empty((len(pixels), len(tiles)), np.float32)
    together = max(1, _POINTS // len(tiles[0]))  # tiles
    for first in range(0, len(tiles), together):
        some = tiles[first : first + together]
        weights, offsets = joint(np.concatenate(some))
        by_tile = (pixels @ weights.T + offsets).reshape(len(pixels), len(some), -1)
        greatest[:, first : first + together] = by_tile.max(axis=2)
    near: NDArray[np.bool_] = greatest > greatest.max(axis=1, keepdims=True) - _NEGLIGIBLE
    return near


def _every_second(place: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which points of the tile at `place` are on the grid of twice the step, `[points]`."""
    even: list[NDArray[np.bool_]] = [(index * _TILE + np.arange(_TILE)) % 2 == 0 for index in place]
    both: NDArray[np.bool_] = np.logical_and.reduce(np.meshgrid(*even, indexing="ij"))
    return both.ravel()


class _Sums:
    """Sums of exp(log p(x, z)) over points z, or parts of them, without overflow."""

    def __init__(self, n_images: int) -> None:
        self._greatest = np.full((n_images, 1), -np.inf)
        self._totals = np.zeros((n_images, 3))

    def add(
        self,
        rows: NDArray[np.intp],
        log_joint: NDArray[np.float32],
        parts: NDArray[np.float32],
    ) -> None:
        """Add points to the sums of the images at `rows`.

        Args:
            rows: `[k]`.
            log_joint: log p(x, z), `[k, points]`.
            parts: Which points belong to which of the three sums, 0 or 1, `[points, 3]`.
        """
        greatest = np.maximum(self._greatest[rows], log_joint.max(axis=1, keepdims=True))
        # In float32, as log p(x, z) is.
        added = np.exp(log_joint - greatest.astype(np.float32)) @ parts
        self._totals[rows] = self._totals[rows] * np.exp(self._greatest[rows] - greatest) + added
        self._greatest[rows] = greatest

    def log(self) -> Floats:
        """Return the logarithm of the sums, `[3, n]`; −∞ where nothing was added."""
        with np.errstate(divide="ignore"):
            logarithms: Floats = (self._greatest + np.log(self._totals)).T
        return logarithms


def _blocks(count: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, count, _BLOCK)]


def importance_weighted_bounds(
    decoder: keras.Model,
    pixels: NDArray[np.float32],
    posterior: tuple[Any, Any],
    *,
    draws: Sequence[int],
    seed: int,
    reconstruction: str | Callable[[Any, Any], Any] = "binary_crossentropy",
    progress: bool = False,
) -> Floats:
    """Return the importance-weighted bound of −log p(x) for several numbers of draws of z.

    Burda et al., Importance Weighted Autoencoders (2016), equation 8: E[−log (1/K) Σ_k p(x, z_k) /
    q(z_k | x)], which is −ELBO for one draw and −log p(x) for very many. As many draws as the
    greatest K asks for are made; a smaller K has the mean over groups of them. So the bounds fall
    with K image by image, not only in expectation. Memory is that of a few thousand draws.

    The pixels are grey values or zeros and ones: the two are other data, and their bounds do not
    compare. `binarize` draws the ones from the others.

    Args:
        decoder: Maps z to pixels, the sigmoid of its layer `logits`.
        pixels: In [0, 1], float32 `[n, 784]`.
        posterior: μ and log σ² of each, `[n, latent_dim]`.
        draws: Each K; each must divide the next one.
        seed: Seed of the draws.
        reconstruction: `binary_crossentropy`, `mse`, or a function of pixels and logits that
            returns −log p(x | z), nats `[batch]`.
        progress: Show a progress bar on stderr, if it is a terminal.

    Returns:
        Nats, `[len(draws), n]`.

    Raises:
        ValueError: A number of draws does not divide the next one.
    """
    if any(more % fewer for fewer, more in itertools.pairwise(draws)) or min(draws) < 1:
        raise ValueError(
            "The bounds are means over groups of draws: expected numbers of which each divides the "
            f"next one, received {list(draws)}; choose for example 1, 10, 100."
        )
    term = RECONSTRUCTIONS[reconstruction] if isinstance(reconstruction, str) else reconstruction
    logits = logits_model(decoder)

    def log_weights(pixels: Any, z_mean: Any, z_log_var: Any, epsilon: Any) -> Any:
        z = reparameterize(z_mean, z_log_var, epsilon)  # [draws, batch, latent_dim]
        values = ops.reshape(logits(ops.reshape(z, (-1, z.shape[-1]))), (*z.shape[:2], -1))
        prior_ratio = 0.5 * ops.sum(ops.square(epsilon) + z_log_var - ops.square(z), axis=-1)
        return prior_ratio - ops.stack([term(pixels, value) for value in ops.unstack(values)])

    compiled = tf.function(functools.partial(log_weights), jit_compile=True)
    noise = np.random.default_rng(seed)
    z_mean, z_log_var = map(np.asarray, posterior)
    bounds = np.empty((len(draws), len(pixels)))
    starts = range(0, len(pixels), _IMAGES)
    for start in tqdm(starts, "importance-weighted bound", disable=None if progress else True):
        # Of one size, as each is compiled; the last images are repeated to fill it.
        rows = np.minimum(np.arange(start, start + _IMAGES), len(pixels) - 1)
        chunks = []
        for _ in range(-(-draws[-1] // _DRAWS)):
            epsilon = noise.standard_normal((_DRAWS, _IMAGES, z_mean.shape[1]), np.float32)
            chunks.append(compiled(pixels[rows], z_mean[rows], z_log_var[rows], epsilon))
        weights = np.concatenate(chunks)[: draws[-1], : len(pixels) - start].astype(np.float64)
        for row, number in zip(bounds, draws, strict=True):
            groups = logsumexp(weights.reshape(-1, number, weights.shape[1]), axis=1)
            row[start : start + _IMAGES] = math.log(number) - groups.mean(axis=0)
    return bounds


def binarize(pixels: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return 1 for each pixel with the probability of its grey value, else 0."""
    thresholds = np.random.default_rng(seed).random(pixels.shape, np.float32)
    return (thresholds < pixels).astype(np.float32)
