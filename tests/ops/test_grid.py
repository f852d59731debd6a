"""The patch grid."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsesr.ops import patch_grid

SIDE, SMALL = st.integers(1, 300), st.integers(1, 20)


@given(SIDE, SIDE, SMALL, SMALL)
def test_grid_is_the_formula(height: int, width: int, patch: int, stride: int) -> None:
    gh, gw = patch_grid(height, width, patch, stride)
    assert gh == max(1, math.ceil((height - patch) / stride) + 1)
    assert gw == max(1, math.ceil((width - patch) / stride) + 1)


@given(SIDE, SMALL, SMALL)
def test_no_gap_no_idle_patch(length: int, patch: int, stride: int) -> None:
    cells, _ = patch_grid(length, 1, patch, stride)
    last = (cells - 1) * stride
    assert last + patch >= length  # the far border is covered
    assert last == 0 or last - stride + patch < length  # and one patch fewer would not do it


@given(SIDE, SIDE, st.integers(1, 8), st.integers(2, 4))
def test_lr_and_hr_grids_agree(height: int, width: int, patch: int, scale: int) -> None:
    hr = patch_grid(scale * height, scale * width, scale * patch)
    assert patch_grid(height, width, patch) == hr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((0, 4, 4), "at least 1x1"), ((4, 4, 0), "patch_size >= 1"), ((4, 4, 4, 0), "stride >= 1")],
)
def test_bad_sizes(arguments: tuple[int, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        patch_grid(*arguments)
