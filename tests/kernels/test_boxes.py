"""Walks and tiles: how tensors are cut up before any kernel runs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

_boxes = pytest.importorskip("sparsesr.kernels._boxes", reason="triton is not installed")
CL = torch.channels_last


def _channels_last(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, memory_format=CL)


@pytest.mark.parametrize(
    ("x", "lengths", "unit", "dense", "vector"),
    [
        (_channels_last(1, 64, 9, 9, dtype=torch.bfloat16), [6, 1, 4, 9], 64, True, 8),
        (_channels_last(1, 64, 9, 9), [6, 1, 4, 9], 64, True, 4),
        (_channels_last(1, 12, 9, 9, dtype=torch.bfloat16), [6, 1, 4, 9], 12, True, 4),
        # Three channels of HR: runs cross pixels.
        (_channels_last(1, 3, 32, 32), [16, 0, 16, 32], 3, True, 4),
        (_channels_last(1, 3, 32, 33), [16, 0, 16, 33], 3, True, 1),
        (_channels_last(1, 64, 20, 20)[:, :, 2:11, 3:12], [6, 1, 4, 9], 64, True, 4),
        # Some channels of a map: pixels have gaps between them.
        (_channels_last(1, 64, 9, 9)[:, :32], [6, 1, 4, 9], 32, False, 4),
        (_channels_last(1, 64, 9, 9)[:, :3], [6, 1, 4, 9], 3, False, 1),
        (torch.empty(1, 3, 32, 32), [16, 0, 16, 32], 1, True, 4),
        (torch.empty(1, 3, 32, 32, dtype=torch.float64), [16, 0, 16, 32], 1, True, 2),
        (torch.empty(1, 3, 32, 32), [6, 1, 4, 32], 1, True, 1),
        (torch.empty(1, 3, 32, 32).transpose(2, 3), [16, 0, 16, 32], 1, False, 1),
    ],
    ids=lambda v: str(tuple(v.shape)) if isinstance(v, Tensor) else str(v),
)
def test_walk(x: Tensor, lengths: list[int], unit: int, dense: bool, vector: int) -> None:
    steps = _boxes.walk(x, [], lengths)
    assert (steps.unit, steps.dense, steps.vector) == (unit, dense, vector)
    assert steps.planes * steps.unit == x.shape[1]


def test_walk_of_two_layouts() -> None:
    """Patches in another layout than the map are read one element at a time."""
    steps = _boxes.walk(_channels_last(1, 8, 8, 8), [torch.empty(4, 8, 4, 4)], [4, 0, 4, 8])
    assert (steps.unit, steps.dense, steps.vector) == (8, False, 1)


SIDE = st.integers(1, 12)


@given(
    SIDE, SIDE, SIDE, st.integers(0, 3), st.sampled_from([torch.float16, torch.float32]), st.data()
)
def test_strides_are_whole_vectors(
    channels: int, side: int, extra: int, crop: int, dtype: torch.dtype, data: st.DataObject
) -> None:
    """What the kernel multiplies by VECTOR gives the strides back."""
    like = data.draw(st.sampled_from([torch.contiguous_format, CL]))
    x = torch.empty(2, channels, side, side + extra + crop, dtype=dtype).to(memory_format=like)
    x = x[..., crop:]
    steps = _boxes.walk(x, [], [side, extra, x.shape[3]])
    passed = steps.strides(x)
    inner = {3} if steps.unit == 1 else {1, 3} if steps.dense else {1}
    for d, (size, stride) in enumerate(zip(x.shape, x.stride(), strict=True)):
        read = steps.unit == 1 or d != 1  # one plane: the channel stride is 1, or not used
        if size > 1 and read and d not in inner:
            assert passed[d] * steps.vector == stride
    if steps.dense:
        assert steps.columns(x.shape[3]) * steps.vector == x.shape[3] * steps.unit


@given(st.integers(1, 10**6), st.integers(1, 10**5), st.sampled_from([1, 2, 4, 8]))
def test_tile_covers_everything_once(boxes: int, elements: int, vector: int) -> None:
    (programs,), blocks = _boxes.tile("op", boxes, elements, vector)
    side, length = blocks["BLOCK_BOXES"], blocks["BLOCK_ELEMENTS"]
    assert side & (side - 1) == 0
    assert length & (length - 1) == 0
    assert programs == math.ceil(boxes / side) * math.ceil(elements / length)
    if elements >= 1024:
        assert math.ceil(elements / length) * length <= 1.25 * elements


def test_too_many_elements_are_refused() -> None:
    with pytest.raises(ValueError, match=r"op: expected at most 2147483647 .* split the batch"):
        _boxes.tile("op", 2**31, 4, 1)
    with pytest.raises(ValueError, match="exceed a launch"):
        _boxes.tile("op", 2**31 - 1, 2**20, 1)


def test_a_useful_stride_keeps_the_windows() -> None:
    assert _boxes.useful_stride(4, 4, 1, 100, 50) == 4
    assert _boxes.useful_stride(10**6, 4, 1, 100, 50) == 101
    assert _boxes.useful_stride(10**6, 200, 1, 100, 50) == 200
