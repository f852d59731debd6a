"""Masks beside each other and the histogram of what refining changes."""

from __future__ import annotations

import numpy as np
import pytest

from sparsesr.viz import change_histogram, mask_panels


def test_panels() -> None:
    coarse = np.full((64, 96, 3), 90, np.uint8)
    target = np.zeros((4, 6), np.float32)
    target[1, 2] = 1
    picture = mask_panels(coarse, target, np.full((4, 6), 1.7), np.zeros((64, 96)), 0.25)
    assert picture.shape == (2 * (64 + 24) + 4, 2 * 96 + 4, 3)
    np.testing.assert_array_equal(picture[:64, :96], coarse)
    top = 64 + 24 + 4
    bright = picture[top + 16 : top + 32, 32:48].astype(int).sum(-1)
    assert (bright > 600).all()  # the one patch of the target
    assert picture[top : top + 16, :96].max() < 10  # zero is dark
    assert (picture[top : top + 64, 100:].astype(int).sum(-1) > 600).all()  # 1.7 is shown as 1


def test_panels_of_other_sizes() -> None:
    coarse = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="masks of one size and a change of the image's"):
        mask_panels(coarse, np.zeros((2, 2)), np.zeros((2, 1)), np.zeros((8, 8)), 0)


def test_histogram_counts_pixels() -> None:
    counts = np.zeros(1024, np.int64)
    counts[[0, 3, 9]] = 700, 50, 250
    figure = change_histogram(counts, 4, "title")
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    bars = {bar.get_x(): bar.get_height() for bar in axes.patches if bar.get_height()}
    assert bars == {0: 700, 0.75: 50, 2.25: 250}
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words == ["below one level: 75.0 % of the pixels", "more: 25.0 % of the pixels"]


def test_histogram_of_nothing_changed() -> None:
    figure = change_histogram(np.array([5, 0, 0, 0]), 2, "title")
    words = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert words[0] == "below one level: 100.0 % of the pixels"
