"""How near restored images are to their clean originals, and what a table of it must satisfy."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mnist_vae.data.images import IMAGE_SHAPE
from mnist_vae.encoding.scores import standard_error

_LEAST_ERROR = 1e-10  # of a mean square: a PSNR of 100 dB; that of no error would be infinite
_WINDOW = 7  # pixels, of the SSIM
_COLUMNS = {
    "kind": "string",
    "level": "float64",
    "method": "string",
    "psnr": "float64",
    "psnr_se": "float64",
    "ssim": "float64",
    "n_images": "int64",
    "model_version": "string",
}


def psnr(
    clean: NDArray[np.float32],
    restored: NDArray[np.float32],
    where: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Return the peak signal-to-noise ratio of each image, 10 log₁₀(1 / MSE), dB, `[n]`.

    The grey values have the range 1. An image without any error has 100 dB.

    Args:
        clean: Grey values in [0, 1], `[n, 784]`.
        restored: Alike.
        where: The pixels that count, `[784]`; None for all.
    """
    error = np.square(clean.astype(np.float64) - restored)
    mse = (error if where is None else error[:, where]).mean(axis=1)
    ratio: NDArray[np.float64] = -10 * np.log10(np.maximum(mse, _LEAST_ERROR))
    return ratio


def ssim(clean: NDArray[np.float32], restored: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the structural similarity of each image, at most 1, `[n]`.

    Wang et al., Image Quality Assessment (2004), in windows of 7 x 7 pixels: what
    `skimage.metrics.structural_similarity` returns for one image with `data_range=1`, for all
    images at once.

    Args:
        clean: Grey values in [0, 1], `[n, 784]`.
        restored: Alike.
    """
    from scipy.ndimage import uniform_filter

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of each window that lies within the image."""
        edge = _WINDOW // 2
        means: NDArray[np.float64] = uniform_filter(values, (0, _WINDOW, _WINDOW))
        return means[:, edge:-edge, edge:-edge]

    x, y = (images.astype(np.float64).reshape(-1, *IMAGE_SHAPE) for images in (clean, restored))
    mean_x, mean_y = mean(x), mean(y)
    unbiased = _WINDOW**2 / (_WINDOW**2 - 1)
    variances = unbiased * (mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2)
    covariance = unbiased * (mean(x * y) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variances + c2)
    total: NDArray[np.float64] = similarity.mean(axis=(1, 2))
    return total


class DenoisingContract:
    """The columns, no null or infinite value, and each method of a level once, by one model."""

    def validate(self, data: pd.DataFrame) -> pd.DataFrame:
        """Return the table as it is.

        Raises:
            ValueError: It breaks the contract.
        """
        columns = {str(name): str(kind) for name, kind in data.dtypes.items()}
        expected = _COLUMNS | ({"release": "string"} if "release" in columns else {})
        if columns != expected:
            raise ValueError(
                f"The scores have the wrong columns: expected {expected}, received {columns}; make "
                "the table with `table_of`."
            )
        numbers = data.select_dtypes("number").columns
        bad = [
            name
            for name in columns
            if data[name].isna().any() or (name in numbers and not np.isfinite(data[name]).all())
        ]
        if data.empty or bad:
            raise ValueError(
                "The scores are not whole: expected rows without null or infinite values, received "
                f"{len(data)} rows and such values in {', '.join(bad) or 'no column'}; run the "
                "pipeline `denoising` again."
            )
        impossible = (data["ssim"].abs() > 1) | (data["psnr_se"] < 0) | (data["n_images"] < 1)
        twice = data.duplicated(["kind", "level", "method"])
        versions = data["model_version"].unique().tolist()
        if impossible.any() or twice.any() or len(versions) > 1:
            raise ValueError(
                "The scores contradict themselves: expected every method of a level once, an SSIM "
                f"in [-1, 1] and one model, received {twice.sum()} rows twice, {impossible.sum()} "
                f"out of range and {len(versions)} models; run the pipeline `denoising` again."
            )
        return data


def table_of(rows: list[dict[str, object]], origin: dict[str, str]) -> pd.DataFrame:
    """Return the table of scores.

    Args:
        rows: `kind`, `level`, `method`, `psnr`, `psnr_se`, `ssim` and `n_images` of each.
        origin: `model_version` and, of a release, `release`.
    """
    table = pd.DataFrame([{**row, **origin} for row in rows])
    kinds = _COLUMNS | dict.fromkeys(origin, "string")
    return table.astype({name: kind for name, kind in kinds.items() if name in table})


def row_of(
    clean: NDArray[np.float32],
    restored: NDArray[np.float32],
    where: NDArray[np.bool_] | None = None,
) -> dict[str, object]:
    """Return the scores of a method: means over the images, and the standard error of the PSNR.

    Args:
        clean: Grey values in [0, 1], `[n, 784]`.
        restored: Alike.
        where: The pixels that count for the PSNR, `[784]`; None for all.
    """
    ratios = psnr(clean, restored, where)
    return {
        "psnr": float(ratios.mean()),
        "psnr_se": standard_error(ratios),
        "ssim": float(ssim(clean, restored).mean()),
        "n_images": len(clean),
    }
