"""PSNR and SSIM against scikit-image and against the figures every paper prints."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsesr.io import list_images, read_image, to_tensor
from sparsesr.metrics import imresize, psnr, quantize, rgb_to_y, ssim


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two similar 8-bit images, [1, 3, 40, 52]."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((10, 13, 3))
    clean = quantize(torch.from_numpy(imresize(coarse, 4)).permute(2, 0, 1)[None])
    noise = torch.from_numpy(rng.normal(0, 0.05, (1, 3, 40, 52)))
    return quantize(clean + noise).float(), clean.float()


def luma(image: torch.Tensor, border: int) -> np.ndarray:
    y = rgb_to_y(image.double())[0, 0].numpy()
    return y[border:-border, border:-border]


def test_luma_of_the_corners_of_the_cube() -> None:
    colours = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0]]).T.reshape(3, 1, 3)
    expected = torch.tensor([16.0, 235.0, 16 + 65.481]).reshape(1, 1, 3)
    torch.testing.assert_close(rgb_to_y(colours), expected)


def test_quantize_rounds_halves_up_and_clamps() -> None:
    x = torch.tensor([-0.3, 0.5 / 255, 1.5 / 255, 0.49 / 255, 1.7], dtype=torch.float64)
    assert (quantize(x) * 255).round().tolist() == [0, 1, 2, 0, 255]


@pytest.mark.parametrize("border", [1, 4])
def test_psnr_is_that_of_scikit_image(border: int) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    sr, hr = pair()
    expected = metrics.peak_signal_noise_ratio(luma(hr, border), luma(sr, border), data_range=255)
    assert psnr(sr, hr, border) == pytest.approx(expected, abs=1e-6)
    inner = (..., slice(border, -border), slice(border, -border))
    rgb = metrics.peak_signal_noise_ratio(
        np.round(255 * hr[inner].numpy()), np.round(255 * sr[inner].numpy()), data_range=255
    )
    assert psnr(sr, hr, border, "rgb") == pytest.approx(rgb, abs=1e-6)


def test_ssim_is_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    sr, hr = pair()
    # scikit-image averages the same windows: those that lie inside the image.
    expected = metrics.structural_similarity(
        luma(hr, 4),
        luma(sr, 4),
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(sr, hr, 4) == pytest.approx(expected, abs=1e-7)
    channels = [
        metrics.structural_similarity(
            255 * hr[0, c].double().numpy(),
            255 * sr[0, c].double().numpy(),
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for c in range(3)
    ]
    assert ssim(sr, hr, 0, "rgb") == pytest.approx(np.mean(channels), abs=1e-6)


def test_equal_images() -> None:
    _, hr = pair()
    assert psnr(hr, hr, 2) == math.inf
    assert ssim(hr[0], hr[0], 2) == pytest.approx(1.0)


def test_values_are_rounded_to_8_bit_first() -> None:
    _, hr = pair()
    assert psnr(hr + 0.4 / 255, hr, 2) == math.inf


@pytest.mark.parametrize(
    ("dataset", "published"),
    # Papers print 26.00 on Set14: they take the two grey images as luma themselves, here every
    # image goes through rgb2ycbcr, which adds 0.09 dB to the mean.
    [("Set5", 28.42), ("Set14", 26.09), ("B100", 25.96)],
)
def test_bicubic_upscaling_gives_the_published_figures(
    shared: Path, dataset: str, published: float
) -> None:
    values = []
    for path in list_images(shared / "data" / dataset / "HR"):
        lr = read_image(shared / "data" / dataset / "LRx4" / path.name)
        sr = to_tensor(imresize(lr, 4))
        hr = to_tensor(read_image(path))[..., : sr.shape[-2], : sr.shape[-1]]
        values.append(psnr(sr, hr, 4))
    assert np.mean(values) == pytest.approx(published, abs=0.015)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_bad_input(metric: object) -> None:
    image = torch.zeros(1, 3, 20, 20)
    assert callable(metric)
    with pytest.raises(ValueError, match=r"expected images of one shape.*crop HR"):
        metric(image, image[..., 1:], 0)
    with pytest.raises(ValueError, match=r"expected \[3, H, W\] or \[1, 3, H, W\]"):
        metric(image[:, :1], image[:, :1], 0)
    with pytest.raises(ValueError, match="a border that leaves pixels of 20x20, got 10"):
        metric(image, image, 10)
    with pytest.raises(ValueError, match="convention 'y' or 'rgb', got 'lab'"):
        metric(image, image, 0, "lab")


def test_ssim_needs_one_window() -> None:
    image = torch.zeros(3, 18, 18)
    with pytest.raises(
        ValueError, match="at least 11 pixels a side inside a border of 4, got 10x10"
    ):
        ssim(image, image, 4)
