"""What an image's likelihood is: exactly, where z has one or two dimensions, or bounded by draws.

log p(x) = log ∫ p(x | z) p(z) dz with p(z) = N(0, I). All figures are nats.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray
from scipy.special import logsumexp
from tqdm import tqdm

from mnist_vae.vae.inference import FEW_DIMENSIONS, LinearJoint, compiled
from mnist_vae.vae.losses import RECONSTRUCTIONS
from mnist_vae.vae.networks import logits_model, reparameterize

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

_TILE = 25  # points of the grid, per dimension, that are summed together or left out together
_NEGLIGIBLE = 25.0  # nats below the greatest point: e^-25 is 1e-11
_HALVINGS = 6  # of the step, at most
_DOUBLINGS = 3  # of the bound, at most
_CELLS = 2**23  # images times tiles, at a time
_BLOCK = 4096  # images at a time
_IMAGES, _DRAWS = 64, 50  # at a time, of the importance-weighted bound


class ExactLikelihood(NamedTuple):
    """log p(x) by quadrature, an image each.

    With it the divergence of any q from the exact posterior is KL(q ‖ p(z | x)) = −ELBO(q) +
    log p(x).
    """

    log_likelihood: Floats
    """log p(x), nats, `[n]`."""
    error: Floats
    """Bound of its error, nats, `[n]`: the greatest difference to the sums with twice the step, of
    which there are two for each dimension. One alone may agree by chance; the error itself is
    less, as it falls at least with the square of the step."""
    outside: Floats
    """Share of the mass in the tiles at the border of the grid, `[n]`. It bounds what lies
    outside, as long as the density falls there."""


@dataclass(frozen=True)
class Grid:
    """The points of a quadrature over z, in each dimension `step` apart, within ± `bound`.

    They are taken in tiles of 25 points a dimension, which are summed together or left out
    together. A place is the number of a tile in each dimension, `[latent_dim]`.
    """

    step: float = 0.02
    bound: float = 6.0

    @property
    def tiles(self) -> int:
        """Tiles per dimension; the last one may reach over the bound."""
        return math.ceil(2 * self.bound / (self.step * _TILE))

    def places(self, latent_dim: int) -> Places:
        """Return the places of all tiles, `[tiles, latent_dim]`."""
        return _product(np.arange(self.tiles), latent_dim)

    def points(self, place: Places) -> NDArray[np.float32]:
        """Return the points of a tile, `[points, latent_dim]`."""
        indices = place * _TILE + _product(np.arange(_TILE), len(place))
        return (-self.bound + self.step * indices.astype(np.float64)).astype(np.float32)

    def at_the_border(self, places: Places) -> NDArray[np.bool_]:
        """Return which tiles are at the border, `[places]`."""
        border: NDArray[np.bool_] = ((places == 0) | (places >= self.tiles - 1)).any(axis=1)
        return border

    def scaled(self, step: float, bound: float = 1) -> Grid:
        """Return the grid with so many times its step and its bound."""
        return Grid(step * self.step, bound * self.bound)


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
    has nothing to do with an image: the grid of twice the step finds the tiles where its
    log p(x, z) comes within 25 nats of the greatest, and only those are summed. Memory is bounded,
    however many the images are. Images that have more of their mass at the border than the
    tolerance are summed anew within twice the bound; images whose error is above it, as their
    posterior is narrower than the grid's step, with half the step in those tiles.

    Args:
        decoder: Maps z to pixels, the sigmoid of its layer `logits`.
        pixels: Grey values in [0, 1], taken as probabilities, float32 `[n, 784]`.
        reconstruction: `binary_crossentropy` or `mse`.
        grid: Its step and bounds.
        tolerance: Nats that the error of an image may be, and share of its mass at the border; the
            step is halved six times at most, and the bound doubled three times.
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
    found = _Quadrature(joint, tolerance, progress)(pixels, grid, _HALVINGS, _DOUBLINGS)
    if reconstruction == "mse":
        return found._replace(
            log_likelihood=found.log_likelihood - np.square(pixels).sum(axis=1, dtype=np.float64)
        )
    return found


@dataclass(frozen=True)
class _Quadrature:
    joint: LinearJoint
    tolerance: float
    progress: bool

    def __call__(
        self, pixels: NDArray[np.float32], grid: Grid, halvings: int, doublings: int
    ) -> ExactLikelihood:
        """Return the sums over a grid, and over wider and finer ones for images that need it."""
        coarse = grid.scaled(2)
        places = coarse.places(self.joint.latent_dim)
        parts = []
        for rows in _slices(len(pixels), max(1, _CELLS // len(places))):
            everywhere = np.ones((len(pixels[rows]), len(places)), bool)
            _, finer, near = self._sum(pixels[rows], coarse, places, everywhere, sums=False)
            parts.append(self._near(pixels[rows], grid, finer, near, halvings, doublings))
        return _joined(parts)

    def _near(
        self,
        pixels: NDArray[np.float32],
        grid: Grid,
        places: Places,
        near: NDArray[np.bool_],
        halvings: int,
        doublings: int,
    ) -> ExactLikelihood:
        """Return the same, of the tiles at `places` that are near, `[n, places]`, to an image."""
        sums, finer_places, finer_near = self._sum(pixels, grid, places, near)
        found = sums.likelihood(grid.step, self.joint.latent_dim)
        far = found.outside > self.tolerance if doublings else np.zeros(len(pixels), bool)
        if far.any():
            _replace(found, far, self(pixels[far], grid.scaled(2, 2), halvings + 1, doublings - 1))
        narrow = np.flatnonzero((found.error > self.tolerance) & ~far)
        if halvings and len(narrow):
            theirs = finer_near[narrow].any(axis=0)
            inside, parts = finer_places[theirs], []
            for some in _slices(len(narrow), max(1, _CELLS // len(inside))):
                rows = narrow[some]
                of_rows = finer_near[np.ix_(rows, theirs)]
                half = grid.scaled(0.5)
                parts.append(self._near(pixels[rows], half, inside, of_rows, halvings - 1, 0))
            _replace(found, narrow, _joined(parts))
        return found

    def _sum(
        self,
        pixels: NDArray[np.float32],
        grid: Grid,
        places: Places,
        near: NDArray[np.bool_],
        *,
        sums: bool = True,
    ) -> tuple[_Sums, Places, NDArray[np.bool_]]:
        """Return the sums over tiles, and which tiles of half the step matter to which images.

        The places of the latter are `[k, latent_dim]`, and which matter is `[n, k]`.
        """
        latent_dim = self.joint.latent_dim
        totals = _Sums(len(pixels), 2**latent_dim + 1)
        at_the_border = grid.at_the_border(places)
        greatest = np.full((len(pixels), len(places), 2**latent_dim), -np.inf, np.float32)
        what = f"exact likelihood, step {grid.step:g}"
        hidden = None if self.progress else True
        for number in tqdm(np.flatnonzero(near.any(axis=0)), what, leave=False, disable=hidden):
            place, of_tile = places[number], np.flatnonzero(near[:, number])
            weights, offsets = self.joint(grid.points(place))
            border = np.full((len(offsets), 1), at_the_border[number])
            parts = np.concatenate([_every_second(place), border], axis=1)
            for block in _slices(len(of_tile), _BLOCK):
                rows = of_tile[block]
                log_joint = pixels[rows] @ weights.T + offsets
                greatest[rows, number] = _greatest_of_halves(log_joint, latent_dim)
                if sums:
                    totals.add(rows, log_joint, parts.astype(np.float32))
        greatest = greatest.reshape(len(pixels), -1)
        matters = greatest > greatest.max(axis=1, keepdims=True) - _NEGLIGIBLE
        halves = 2 * places[:, np.newaxis] + _product(np.arange(2), latent_dim)
        finer = halves.reshape(-1, latent_dim)
        return totals, finer, matters


def _greatest_of_halves(log_joint: NDArray[np.float32], latent_dim: int) -> NDArray[np.float32]:
    """Return the greatest value in each tile of half the step, `[n, 2 ** latent_dim]`.

    With half the step a tile of 25 points is 13 points wide of these, or the 12 others.
    """
    values = log_joint.reshape(-1, *[_TILE] * latent_dim)
    for axis in range(1, latent_dim + 1):
        values = np.maximum.reduceat(values, [0, _TILE // 2 + 1], axis=axis)
    return values.reshape(len(log_joint), -1)


def _every_second(place: Places) -> NDArray[np.bool_]:
    """Return which points of the tile at `place` are on which grid of twice the step.

    Every point is on one of them, `[points, 2 ** latent_dim]`.
    """
    latent_dim = len(place)
    odd = (place * _TILE + _product(np.arange(_TILE), latent_dim)) % 2
    grids: NDArray[np.bool_] = (odd[:, np.newaxis] == _product(np.arange(2), latent_dim)).all(2)
    return grids


def _product(numbers: NDArray[np.intp], dimensions: int) -> Places:
    """Return all combinations of the numbers, the last dimension's next to each other."""
    mesh = np.meshgrid(*[numbers] * dimensions, indexing="ij")
    return np.stack([axis.ravel() for axis in mesh], axis=1)


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _joined(parts: list[ExactLikelihood]) -> ExactLikelihood:
    return ExactLikelihood(*map(np.concatenate, zip(*parts, strict=True)))


def _replace(found: ExactLikelihood, rows: NDArray[Any], better: ExactLikelihood) -> None:
    for values, anew in zip(found, better, strict=True):
        values[rows] = anew


class _Sums:
    """Sums of exp(log p(x, z)) over points z, or parts of them, without overflow.

    The last part is that at the border; every point is in one of the others.
    """

    def __init__(self, n_images: int, parts: int) -> None:
        self._greatest = np.full((n_images, 1), -np.inf)
        self._totals = np.zeros((n_images, parts))

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
            parts: Which points belong to which of the sums, 0 or 1, `[points, parts]`.
        """
        greatest = np.maximum(self._greatest[rows], log_joint.max(axis=1, keepdims=True))
        # In float32, as log p(x, z) is.
        added = np.exp(log_joint - greatest.astype(np.float32)) @ parts
        self._totals[rows] = self._totals[rows] * np.exp(self._greatest[rows] - greatest) + added
        self._greatest[rows] = greatest

    def likelihood(self, step: float, latent_dim: int) -> ExactLikelihood:
        """Return what the sums come to, over points `step` apart."""
        totals = self._totals[:, :-1].sum(axis=1, keepdims=True)
        shares = self._totals / totals
        # The prior's constant, and the area that a point stands for.
        volume = latent_dim * (math.log(step) - 0.5 * math.log(2 * math.pi))
        with np.errstate(divide="ignore"):
            differences = np.abs(np.log(shares[:, :-1] * 2**latent_dim))
        return ExactLikelihood(
            (self._greatest + np.log(totals))[:, 0] + volume,
            differences.max(axis=1),
            shares[:, -1],
        )


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

    compiled_weights = compiled(log_weights)
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
            chunks.append(compiled_weights(pixels[rows], z_mean[rows], z_log_var[rows], epsilon))
        weights = np.concatenate(chunks)[: draws[-1], : len(pixels) - start].astype(np.float64)
        for row, number in zip(bounds, draws, strict=True):
            groups = logsumexp(weights.reshape(-1, number, weights.shape[1]), axis=1)
            row[start : start + _IMAGES] = math.log(number) - groups.mean(axis=0)
    return bounds


def binarize(pixels: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return 1 for each pixel with the probability of its grey value, else 0."""
    thresholds = np.random.default_rng(seed).random(pixels.shape, np.float32)
    return (thresholds < pixels).astype(np.float32)
