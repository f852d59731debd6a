"""The comparison as a picture: whole images, frames, crops enlarged, all where they belong."""

from __future__ import annotations

import numpy as np
import pytest

from sparsesr.viz.compare import FRAMES, comparison_picture, crop_size, shown_size, zoom_of
from sparsesr.viz.text import PAPER, paragraph


def flat(height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def test_columns_in_order_with_crops_below() -> None:
    one, other = flat(300, 320, (10, 20, 200)), flat(300, 320, (200, 30, 10))
    other[101:150, 61:110] = 250
    crop = (100, 60, 51, 91)
    zoom = zoom_of((300, 320), crop)
    assert zoom == (640 - 6) // 91
    picture = comparison_picture([("one", one), ("other", other)], [crop], "a note")
    bar = round(0.075 * 640)
    assert picture.shape[1] == 2 * 640 + 4
    assert tuple(picture[300, 20]) == (10, 20, 200)
    assert tuple(picture[300, 700]) == (200, 30, 10)
    # The frame in the whole picture, at twice the size, outside the crop.
    for left in (0, 644):
        assert tuple(picture[2 * 100 - 2, left + 2 * 80]) == FRAMES[0]
        assert tuple(picture[2 * 120, left + 2 * 60 - 1]) == FRAMES[0]
        assert tuple(picture[2 * 100 - 4, left + 2 * 80]) == PAPER
    np.testing.assert_array_equal(
        picture[200:302:2, 644 + 120 : 644 + 302 : 2], other[100:151, 60:151]
    )
    assert picture[600 : 600 + bar, :640].max() > 200  # the label
    top = 600 + bar + 4
    assert tuple(picture[top, 100]) == FRAMES[0]
    left = 644 + (640 - zoom * 91 - 6) // 2 + 3
    tile = picture[top + 3 : top + 3 + zoom * 51, left : left + zoom * 91]
    np.testing.assert_array_equal(tile[::zoom, ::zoom], other[100:151, 60:151])
    np.testing.assert_array_equal(tile[zoom - 1 :: zoom, zoom - 1 :: zoom], tile[::zoom, ::zoom])
    assert len(picture) > top + 6 + zoom * 51 + 4  # the note


def test_frames_at_the_edge_stay_visible() -> None:
    picture = comparison_picture([("a", flat(90, 160, (0, 0, 0)))], [(0, 0, 27, 48)])
    assert tuple(picture[20, 0]) == tuple(picture[0, 20]) == FRAMES[0]
    assert tuple(picture[20, 3]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((4320, 7680), (360, 640)),
        ((7680, 4320), (960, 540)),
        ((5000, 8), (960, 2)),
        ((8, 5000), (1, 640)),
        ((640, 640), (640, 640)),
        ((300, 320), (600, 640)),
        ((8, 8), (640, 640)),
        ((1, 1), (640, 640)),
    ],
)
def test_no_picture_grows_out_of_bounds(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert shown_size(*size) == shown
    crop = crop_size(*size)
    crops = [] if crop is None else [(0, 0, *crop)] * 3
    picture = comparison_picture([("a", np.zeros((*size, 3), np.uint8))] * 2, crops, "note")
    assert picture.shape[1] <= 2 * 640 + 4
    assert len(picture) <= 960 + 60 + 3 * 400 + 40
    if crop is not None:
        assert crop[0] <= size[0]
        assert crop[1] <= size[1]
        assert zoom_of(size, (0, 0, *crop)) * size[1] > shown[1]  # or it would show nothing new


def test_what_is_shown_large_needs_no_crops() -> None:
    assert crop_size(32, 32) is None
    assert crop_size(80, 80) is None
    assert crop_size(96, 96) is not None
    assert crop_size(5120, 32) == (12, 22)
    rows, cols = crop_size(480, 640) or (0, 0)
    assert 80 <= cols <= 96
    assert 1.5 < cols / rows < 2


def test_notes_break_between_words() -> None:
    text = "many words that do not fit into a line of this width " * 3
    assert len(paragraph(text, 2000)) == 24
    assert len(paragraph(text, 300)) >= 4 * 24
    assert paragraph("", 50).shape == (24, 50, 3)


def test_bad_input() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    with pytest.raises(ValueError, match="at least one panel"):
        comparison_picture([])
    with pytest.raises(ValueError, match=r"one size, \(20, 30, 3\), got \(20, 29, 3\) of 'b'"):
        comparison_picture([("a", image), ("b", image[:, :29])])
    with pytest.raises(ValueError, match="lies outside 20x30"):
        comparison_picture([("a", image)], [(10, 0, 11, 5)])
    with pytest.raises(ValueError, match="at most 3 crops, got 4"):
        comparison_picture([("a", image)], [(0, 0, 5, 5)] * 4)
