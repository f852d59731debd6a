"""The masks of the modules over the image."""

from __future__ import annotations

import numpy as np
import pytest

from sparsesr.viz import pixel_masks


def test_masked_pixels_keep_their_colour() -> None:
    image = np.full((40, 60, 3), 200, np.uint8)
    image[..., 2] = 50
    masks = np.zeros((4, 20, 30), bool)
    masks[1, :5] = True  # a quarter of the rows, at half the size
    picture = pixel_masks(image, masks)
    assert picture.shape == (2 * 64 + 4, 3 * 60 + 2 * 4, 3)
    np.testing.assert_array_equal(picture[:40, :60], image)
    second = picture[:40, 2 * 64 : 2 * 64 + 60]
    np.testing.assert_array_equal(second[:10], image[:10])
    assert second[10:].max() < 100
    assert (second[10:] == second[10:, :, :1]).all()  # grey


@pytest.mark.parametrize(
    ("image", "masks", "error", "text"),
    [
        (np.zeros((8, 8, 3)), np.zeros((1, 8, 8), bool), TypeError, "uint8 image and bool masks"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8)), TypeError, "float64"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool), ValueError, r"masks \[N, h, w\]"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((1, 3, 8), bool), ValueError, "no whole factor"),
    ],
)
def test_bad_input(image: np.ndarray, masks: np.ndarray, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        pixel_masks(image, masks)
