"""Overlay and strip: what is bright, what is dim, what fits."""

from __future__ import annotations

import numpy as np
import pytest

from sparsesr.viz import comparison_strip, mask_overlay
from sparsesr.viz.mask_overlay import OUTLINE


def test_overlay_keeps_refined_patches_and_dims_the_rest() -> None:
    image = np.full((40, 48, 3), 200, np.uint8)
    image[..., 2] = 50
    picture = mask_overlay(image, np.array([1, 5], np.int32), (3, 3), 16, legend=False)
    assert picture.shape == image.shape
    np.testing.assert_array_equal(picture[0:16, 16:32], image[0:16, 16:32])
    assert picture[39, 0].max() < 100
    assert len(set(picture[39, 0].tolist())) == 1  # grey
    assert tuple(picture[20, 15 + 16]) == OUTLINE


@pytest.mark.parametrize("count", [0, 9])
def test_overlay_of_nothing_and_everything(count: int) -> None:
    image = np.full((30, 33, 3), 120, np.uint8)
    picture = mask_overlay(image, np.arange(count), (3, 3), 11, legend=False)
    assert not (picture == OUTLINE).all(axis=-1).any()
    assert (picture == image).all() == (count == 9)


def test_overlay_has_a_legend() -> None:
    image = np.zeros((8, 64, 3), np.uint8)
    picture = mask_overlay(image, np.array([], np.int32), (1, 8), 8)
    assert picture.shape == (32, 64, 3)
    assert (picture == OUTLINE).all(axis=-1).any()
    assert picture[8:].max() > 150  # text


@pytest.mark.parametrize(
    ("image", "index", "grid", "error", "text"),
    [
        (np.zeros((8, 8, 3)), [0], (2, 2), TypeError, "expected a uint8 image, got float64"),
        (np.zeros((8, 8), np.uint8), [0], (2, 2), ValueError, r"expected \[H, W, 3\]"),
        (np.zeros((9, 8, 3), np.uint8), [0], (2, 2), ValueError, "does not cover 9x8 pixels"),
        (np.zeros((8, 8, 3), np.uint8), [4], (2, 2), ValueError, "patch numbers below 4"),
    ],
)
def test_overlay_bad_input(
    image: np.ndarray, index: list, grid: tuple, error: type, text: str
) -> None:
    with pytest.raises(error, match=text):
        mask_overlay(image, np.array(index), grid, 4)


def test_strip_enlarges_lr_and_crops() -> None:
    lr = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    hr = np.full((16, 20, 3), 9, np.uint8)
    whole = comparison_strip([("LR", lr), ("HR", hr)])
    assert whole.shape == (16 + 24, 20 + 4 + 20, 3)
    np.testing.assert_array_equal(whole[:16:4, :20:4], lr)
    part = comparison_strip([("LR", lr), ("HR", hr), ("HR", hr)], (4, 4, 8, 8), zoom=2, columns=2)
    assert part.shape == (2 * (16 + 24) + 4, 16 + 4 + 16, 3)


def test_strip_bad_input() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="at least one panel"):
        comparison_strip([])
    with pytest.raises(ValueError, match="lies outside 8x8"):
        comparison_strip([("a", image)], (4, 4, 8, 8))
    with pytest.raises(ValueError, match=r"'b' is .* no whole factor"):
        comparison_strip([("a", image), ("b", image[:3, :3])])
