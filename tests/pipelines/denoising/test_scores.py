"""PSNR and SSIM against known answers, and the contract of their table."""

import numpy as np
import pandas as pd
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mnist_vae.pipelines.denoising.scores import (
    DenoisingContract,
    psnr,
    row_of,
    ssim,
    table_of,
)


@pytest.fixture
def pair():
    random = np.random.default_rng(0)
    clean = random.random((5, 784)).astype("float32")
    return clean, np.clip(clean + 0.2 * random.standard_normal((5, 784)), 0, 1).astype("float32")


def test_an_error_of_a_tenth_is_20_db():
    black = np.zeros((3, 784), "float32")
    assert psnr(black, black + np.float32(0.1)) == pytest.approx([20.0] * 3, abs=1e-5)


def test_an_image_without_error_has_100_db():
    black = np.zeros((1, 784), "float32")
    assert psnr(black, black) == pytest.approx([100.0])


def test_pixels_that_do_not_count_do_not_count():
    black, where = np.zeros((1, 784), "float32"), np.arange(784) < 100
    restored = np.where(where, np.float32(0.1), np.float32(0.9))[np.newaxis]
    assert psnr(black, restored, where) == pytest.approx([20.0], abs=1e-5)


def test_psnr_is_that_of_scikit_image(pair):
    expected = [
        peak_signal_noise_ratio(one, other, data_range=1) for one, other in zip(*pair, strict=True)
    ]
    assert psnr(*pair) == pytest.approx(expected, rel=1e-6)


def test_ssim_is_that_of_scikit_image(pair):
    expected = [
        structural_similarity(one.reshape(28, 28), other.reshape(28, 28), data_range=1)
        for one, other in zip(*pair, strict=True)
    ]
    assert ssim(*pair) == pytest.approx(expected, rel=1e-4)
    assert ssim(pair[0], pair[0]) == pytest.approx(1.0)


def test_the_psnr_of_a_table_is_the_mean_over_the_images_with_its_standard_error():
    black = np.zeros((2, 784), "float32")
    restored = np.full_like(black, 0.1)
    restored[1] = 0.01  # 40 dB beside 20 dB
    row = row_of(black, restored)
    assert row["psnr"] == pytest.approx(30.0, abs=1e-4)
    assert row["psnr_se"] == pytest.approx(10.0, abs=1e-4)
    assert row["n_images"] == 2
    assert row_of(black[:1], restored[:1])["psnr_se"] == 0.0


@pytest.fixture
def table():
    rows = [
        {"kind": "blur", "level": 1.0, "method": method, "psnr": 18.0}
        | {"psnr_se": 0.1, "ssim": 0.5, "n_images": 10}
        for method in ("noisy", "median")
    ]
    return table_of(rows, {"model_version": "abc"})


def test_a_table_of_a_model_or_of_a_release_keeps_the_contract(table):
    assert DenoisingContract().validate(table) is table
    of_release = table_of(
        table.drop(columns="model_version").to_dict("records"),
        {"model_version": "abc", "release": "000001-x"},
    )
    assert DenoisingContract().validate(of_release)["release"].tolist() == ["000001-x"] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="ssim"), "wrong columns"),
        (lambda table: table.assign(n_images=table["n_images"].astype(float)), "wrong columns"),
        (lambda table: table.assign(psnr=[1.0, np.nan]), "such values in psnr;"),
        (lambda table: table.assign(psnr=[1.0, np.inf]), "such values in psnr;"),
        (lambda table: table.assign(kind=pd.array(["a", None], "string")), "values in kind;"),
        (lambda table: table[:0], "received 0 rows and such values in no column"),
        (lambda table: table.assign(ssim=[1.0, 1.5]), "1 out of range"),
        (lambda table: pd.concat([table, table[:1]]), "received 1 rows twice"),
        (
            lambda table: table.assign(model_version=pd.array(["a", "b"], "string")),
            "and 2 models",
        ),
    ],
)
def test_a_table_that_breaks_the_contract_is_refused(table, change, message):
    with pytest.raises(ValueError, match=message):
        DenoisingContract().validate(change(table))
