"""The band along patch borders, its PSNR, and the smoothing of its coarse side."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import sparsesr
from sparsesr.data import load_pair, paired_images
from sparsesr.inference.masks import patch_pixels
from sparsesr.inference.seams import BAND, MEASURES, measure_seams, seam_band, smooth_seams
from sparsesr.metrics import psnr, quantize, rgb_to_y


@pytest.mark.parametrize("band", [1, 2, 3])
def test_the_band_is_what_lies_near_the_other_kind(band: int) -> None:
    refined = torch.rand(2, 1, 11, 9, generator=torch.Generator().manual_seed(1)) > 0.8
    found = seam_band(refined, band)
    for b in range(2):
        for y in range(11):
            for x in range(9):
                window = refined[
                    b, 0, max(0, y - band) : y + band + 1, max(0, x - band) : x + band + 1
                ]
                assert bool(found[b, 0, y, x]) == bool((window != refined[b, 0, y, x]).any())


def test_no_band_where_all_is_of_one_kind() -> None:
    for value in (True, False):
        assert not seam_band(torch.full((1, 1, 6, 7), value)).any()


def test_measures_of_an_image(net: torch.nn.Module, dataset: Path) -> None:
    """The band's errors and the rest's add up to those of the image."""
    seen: list[tuple] = []
    document = measure_seams(net, dataset, 2, k=7, progress=lambda *step: seen.append(step))
    assert document["k"] == 7
    assert (document["band"], document["smooth"], document["dataset"]) == (BAND, False, "Set5")
    assert seen == [(1, 2, "one"), (2, 2, "two")]
    for pair, row in zip(paired_images(dataset, 2), document["images"], strict=True):
        lr, hr = load_pair(pair, 2)
        with torch.no_grad():
            out = net(lr, k=7, return_details=True)
            full = net(lr, budget=1.0)
        rows, cols = -(-lr.shape[-2] // 4), -(-lr.shape[-1] // 4)
        size = (hr.shape[-2], hr.shape[-1])
        band = seam_band(patch_pixels(out.index, (rows, cols), 8, size))[..., 2:-2, 2:-2]
        assert row["coverage"] == 7 / (rows * cols)
        assert row["seam_share"] == pytest.approx(float(band.double().mean()))
        mse = [255**2 / 10 ** (row[key] / 10) for key in ("seam_psnr", "rest_psnr")]
        share = row["seam_share"]
        whole = 10 * math.log10(255**2 / (share * mse[0] + (1 - share) * mse[1]))
        assert whole == pytest.approx(psnr(out.sr, hr, 2), abs=1e-3)
        levels = [rgb_to_y(quantize(image).double())[..., 2:-2, 2:-2] for image in (full, hr)]
        error = (levels[0] - levels[1]).square()[band].mean()
        assert row["refined_psnr"] == pytest.approx(10 * math.log10(255**2 / error), abs=1e-3)


@pytest.mark.parametrize("convention", ["y", "rgb"])
@pytest.mark.parametrize("k", [0, "all"])
def test_no_border(net: torch.nn.Module, dataset: Path, k: Any, convention: Any) -> None:
    document = measure_seams(net, dataset, 2, k=k, convention=convention)
    assert document["mean"]["seam_psnr"] is None
    assert document["mean"]["seam_share"] == 0
    for pair, row in zip(paired_images(dataset, 2), document["images"], strict=True):
        lr, hr = load_pair(pair, 2)
        with torch.no_grad():
            sr = net(lr, budget=float(k == "all"))
        assert row["rest_psnr"] == pytest.approx(psnr(sr, hr, 2, convention), abs=1e-3)


def test_means_are_over_images_with_a_band(net: torch.nn.Module, dataset: Path) -> None:
    # 20 x 18 LR pixels are 25 patches, all of them; the other image has 7 x 9.
    document = measure_seams(net, dataset, 2, k=25)
    one, two = document["images"]
    assert one["seam_psnr"] is None
    assert document["mean"] == {key: two[key] for key in MEASURES}


def test_smoothing_moves_coarse_pixels_that_touch_a_patch_alone() -> None:
    sr = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    refined = torch.zeros(1, 1, 24, 24, dtype=torch.bool)
    refined[..., 8:16, 8:16] = True
    ring = seam_band(refined, 1) & ~refined
    smooth = smooth_seams(sr, refined)
    assert torch.equal(smooth[~ring.expand_as(sr)], sr[~ring.expand_as(sr)])
    mean = torch.nn.functional.avg_pool2d(sr, 3, stride=1, padding=1)
    where = ring.expand_as(sr)
    torch.testing.assert_close(smooth[where], mean[where])


def test_smoothing_changes_the_band(net: torch.nn.Module, dataset: Path) -> None:
    plain, smooth = (measure_seams(net, dataset, 2, k=7, smooth=flag) for flag in (False, True))
    for before, after in zip(plain["images"], smooth["images"], strict=True):
        assert after["seam_psnr"] != before["seam_psnr"]
        assert after["rest_psnr"] == before["rest_psnr"]
    assert smooth["smooth"]


def test_what_it_refuses(net: torch.nn.Module, dataset: Path) -> None:
    with pytest.raises(ValueError, match="fsrcnn-dnet has no patches; expected an -mga network"):
        measure_seams(sparsesr.create_model("fsrcnn-dnet", 2), dataset, 2)
    with pytest.raises(ValueError, match="expected convention y or rgb, got 'pcsr'"):
        measure_seams(net, dataset, 2, convention="pcsr")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k or budget, got both"):
        measure_seams(net, dataset, 2, k=3, budget=0.5)
