"""``gather_patches`` of the native module, forward and backward, against loops."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from sparsesr.ops import _native
from sparsesr.ops._layout import memory_format_of
from tests.native import oracle
from tests.native.cases import (
    CASES,
    Case,
    assert_equal,
    assert_rounded,
    each_case,
    each_dtype,
    each_layout,
)


@functools.cache
def expected_patches(case: Case) -> Tensor:
    return oracle.gather(case.map(), case.index(), case.p, case.halo, case.stride)


@functools.cache
def expected_gradient(case: Case) -> Tensor:
    window = (case.height, case.width, case.p, case.halo, case.stride)
    return oracle.gather_backward(case.patches(torch.float32), case.index(), *window)


@each_layout
@each_case
def test_forward(case: Case, layout: str, isa: str) -> None:
    x, index = case.map(layout=layout), case.index()
    patches = _native.gather_patches(x, index, case.p, case.halo, case.stride)
    assert_equal(patches, expected_patches(case))
    assert patches.is_contiguous(memory_format=memory_format_of(x))


@each_dtype
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
def test_forward_moves_bytes(dtype: torch.dtype, layout: str, isa: str) -> None:
    case = CASES[1]
    x, index = case.map(dtype, layout), case.index()
    x[0, 0, 0, 0] = torch.nan
    x[0, 0, 0, 1] = -0.0
    patches = _native.gather_patches(x, index, case.p, case.halo, case.stride)
    expected = oracle.gather(x, index, case.p, case.halo, case.stride)
    assert torch.equal(patches.contiguous().view(torch.uint8), expected.view(torch.uint8))


@pytest.mark.parametrize("window", range(1, 41))
def test_every_row_length(window: int, isa: str) -> None:
    """Rows of every size go through some copy routine: 2 B to 320 B and, channels_last, 8 KiB."""
    for dtype in (torch.float16, torch.float64):
        for layout, channels in (("nchw", 1), ("channels_last", 26)):
            case = Case(1, channels, window + 3, window + 5, p=window, halo=0, stride=2, k=1)
            x, index = case.map(dtype, layout), case.index()[:, :3]
            patches = _native.gather_patches(x, index, window, 0, 2)
            assert_equal(patches, oracle.gather(x, index, window, 0, 2))


@pytest.mark.parametrize("channels", [7, 9, 16, 21, 25, 30, 33])
@pytest.mark.parametrize("mebibytes", [4, 8])
def test_large(channels: int, mebibytes: int, isa: str) -> None:
    """Patches of 4 MiB and more fetch ahead, of 8 MiB and more are written around the caches.

    The second where rows are whole cache lines (16 channels); the windows reach over every edge.
    """
    x = torch.randn(1, channels, 40, 35).contiguous(memory_format=torch.channels_last)
    p, halo = 2, 5
    side, gh, gw = p + 2 * halo, 20, 18
    slots = (mebibytes << 20) // (side * side * channels * 4) + 1
    index = torch.randint(gh * gw, (1, slots), generator=torch.Generator().manual_seed(0))
    patches = _native.gather_patches(x, index.to(torch.int32), p, halo, p)
    assert patches.nbytes >= mebibytes << 20
    padded = torch.nn.functional.pad(x, (halo, halo + 1, halo, halo))
    windows = padded.unfold(2, side, p).unfold(3, side, p)  # [1, C, gh, gw, side, side]
    assert_equal(patches, windows.flatten(2, 3)[0][:, index[0]].transpose(0, 1))


@each_layout
@each_case
def test_backward(case: Case, layout: str, isa: str) -> None:
    grad, index = case.patches(torch.float32, layout), case.index()
    window = (case.height, case.width, case.p, case.halo, case.stride)
    grad_x = _native.gather_patches_backward(grad, index, *window)
    assert_rounded(grad_x, expected_gradient(case))
    if grad.numel() > 0:
        assert grad_x.is_contiguous(memory_format=memory_format_of(grad))


@each_dtype
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize("case", [CASES[2], CASES[6], CASES[7]], ids=str)
def test_backward_dtypes(case: Case, dtype: torch.dtype, layout: str, isa: str) -> None:
    grad, index = case.patches(dtype, layout), case.index()
    window = (case.height, case.width, case.p, case.halo, case.stride)
    grad_x = _native.gather_patches_backward(grad, index, *window)
    assert grad_x.dtype == dtype
    assert_rounded(grad_x, oracle.gather_backward(grad, index, *window))


def test_duplicates_are_gathered_and_summed() -> None:
    index = torch.tensor([[1, 1, 0, 1]], dtype=torch.int32)
    x = torch.randn(1, 2, 4, 8)
    assert_equal(_native.gather_patches(x, index, 4, 0, 4), oracle.gather(x, index, 4, 0, 4))
    grad = torch.randn(4, 2, 4, 4)
    grad_x = _native.gather_patches_backward(grad, index, 4, 8, 4, 0, 4)
    assert_rounded(grad_x, oracle.gather_backward(grad, index, 4, 8, 4, 0, 4))


def test_half_rounding_is_exact() -> None:
    """All 65536 halves, and sums of two of them, round as torch rounds."""
    bits = torch.arange(-32768, 32768, dtype=torch.int16)
    index = torch.zeros(1, 2, dtype=torch.int32)
    for dtype in (torch.float16, torch.bfloat16):
        values = bits.view(dtype)
        other = values[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))]
        grad = torch.stack((values, other)).reshape(2, -1, 1, 1)
        total = _native.gather_patches_backward(grad, index, 1, 1, 1, 0, 1).flatten()
        expected = (values.float() + other.float()).to(dtype)
        torch.testing.assert_close(total, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("bad", [-1, 6])
def test_index_out_of_range(bad: int) -> None:
    index = torch.tensor([[0, 5], [bad, 1]], dtype=torch.int32)
    message = (
        rf"gather_patches: expected index values in \[0, 6\).*2 x 3.*got {bad} at index\[1, 0\]"
    )
    with pytest.raises(ValueError, match=message):
        _native.gather_patches(torch.zeros(2, 3, 8, 12), index, 4, 1, 4)
    with pytest.raises(ValueError, match="gather_patches_backward: expected index values"):
        _native.gather_patches_backward(torch.zeros(4, 3, 6, 6), index, 8, 12, 4, 1, 4)


def test_wrong_arguments() -> None:
    x, index = torch.zeros(1, 3, 8, 8), torch.zeros(1, 2, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"gather_patches: expected stride >= 1, got 0"):
        _native.gather_patches(x, index, 4, 1, 0)
    with pytest.raises(TypeError, match=r"gather_patches: expected index int32, got float32"):
        _native.gather_patches(x, index.float(), 4, 1, 4)
    with pytest.raises(ValueError, match=r"expected index \[B,k\] = \[1, 2\], got \[2, 2\]"):
        _native.gather_patches(x, torch.zeros(2, 2, dtype=torch.int32), 4, 1, 4)
    with pytest.raises(TypeError, match=r"expected x as a strided .*, got int64 strided on cpu"):
        _native.gather_patches(x.long(), index, 4, 1, 4)
    with pytest.raises(ValueError, match=r"expected grad \[B\*k,C,P,P\] = \[2, 3, 6, 6\], got"):
        _native.gather_patches_backward(torch.zeros(2, 3, 5, 6), index, 8, 8, 4, 1, 4)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
def test_thread_count_changes_nothing(layout: str, isa: str) -> None:
    case = Case(2, 16, 64, 72, p=4, halo=2, stride=3, k=0.8)
    x, index, grad = case.map(layout=layout), case.index(), case.patches(torch.float32, layout)
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        patches = _native.gather_patches(x, index, 4, 2, 3)
        grad_x = _native.gather_patches_backward(grad, index, 64, 72, 4, 2, 3)
        results.append((patches, grad_x))
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)
