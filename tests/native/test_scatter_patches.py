"""``scatter_patches`` of the native module, in place, out of place and backward, against loops."""

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

each_reduce = pytest.mark.parametrize("reduce", ["replace", "mean"])


@functools.cache
def expected_map(case: Case, dtype: torch.dtype, reduce: str) -> Tensor:
    canvas, patches = case.map(dtype), case.patches(dtype, halo=0)
    return oracle.scatter(canvas, patches, case.index(), case.p, case.stride, reduce)


@functools.cache
def expected_gradients(case: Case, dtype: torch.dtype, reduce: str) -> tuple[Tensor, Tensor]:
    return oracle.scatter_backward(case.map(dtype), case.index(), case.p, case.stride, reduce)


def check_forward(case: Case, canvas: Tensor, patches: Tensor, reduce: str) -> None:
    index = case.index()
    expected = expected_map(case, canvas.dtype, reduce)
    check = assert_equal if reduce == "replace" else assert_rounded
    before = canvas.clone()
    out = _native.scatter_patches(canvas, patches, index, case.p, case.stride, reduce)
    check(out, expected)
    assert out.is_contiguous(memory_format=memory_format_of(canvas))
    assert torch.equal(canvas, before)
    _native.scatter_patches_(canvas, patches, index, case.p, case.stride, reduce)
    check(canvas, expected)


@each_reduce
@each_layout
@each_case
def test_forward(case: Case, layout: str, reduce: str, isa: str) -> None:
    check_forward(case, case.map(layout=layout), case.patches(torch.float32, layout, 0), reduce)


@each_reduce
@pytest.mark.parametrize("other", ["nchw", "channels_last", "transposed"])
@each_layout
@pytest.mark.parametrize("case", [CASES[2], CASES[6]], ids=str)
def test_mixed_layouts(case: Case, layout: str, other: str, reduce: str) -> None:
    check_forward(case, case.map(layout=layout), case.patches(torch.float32, other, 0), reduce)


@each_reduce
@each_dtype
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize("case", [CASES[1], CASES[6], CASES[8]], ids=str)
def test_dtypes(case: Case, dtype: torch.dtype, layout: str, reduce: str, isa: str) -> None:
    check_forward(case, case.map(dtype, layout), case.patches(dtype, layout, 0), reduce)


def test_memory_around_a_slice_is_left_alone(isa: str) -> None:
    outer = torch.full((1, 9, 11, 4), 7.0)
    canvas = outer.permute(0, 3, 1, 2)[:, :3, 1:8, 2:9]
    index = torch.arange(4, dtype=torch.int32)[None]
    _native.scatter_patches_(canvas, torch.zeros(4, 3, 4, 4), index, 4, 4, "replace")
    assert canvas.abs().sum() == 0
    assert outer.sum() == 7.0 * (outer.numel() - canvas.numel())


@each_reduce
@each_layout
@each_case
def test_backward(case: Case, layout: str, reduce: str, isa: str) -> None:
    grad, index = case.map(layout=layout), case.index()
    check_backward(case, grad, index, reduce)


@each_reduce
@each_dtype
@pytest.mark.parametrize("case", [CASES[2], CASES[6], CASES[8]], ids=str)
def test_backward_dtypes(case: Case, dtype: torch.dtype, reduce: str, isa: str) -> None:
    check_backward(case, case.map(dtype, "channels_last"), case.index(), reduce)


def check_backward(case: Case, grad: Tensor, index: Tensor, reduce: str) -> None:
    actual = _native.scatter_patches_backward(grad, index, case.p, case.stride, reduce)
    expected = expected_gradients(case, grad.dtype, reduce)
    check = assert_equal if reduce == "replace" else assert_rounded
    for one, other in zip(actual, expected, strict=True):
        check(one, other)
        assert one.dtype == grad.dtype
        if one.numel() > 0:
            assert one.is_contiguous(memory_format=memory_format_of(grad))


@each_reduce
def test_nothing_is_written_after_a_bad_index(reduce: str) -> None:
    patches = torch.ones(4, 2, 4, 4)
    for index, message in (
        ([[0, 1], [2, 4]], r"scatter_patches_: expected index values in \[0, 4\).*got 4"),
        ([[0, 1], [3, 3]], r"scatter_patches_: expected each patch at most once.*got 3 .*\[1, 1\]"),
        ([[0, 1], [-1, 3]], r"scatter_patches_: expected index values in \[0, 4\).*got -1"),
    ):
        canvas = torch.zeros(2, 2, 8, 8)
        with pytest.raises(ValueError, match=message):
            _native.scatter_patches_(
                canvas, patches, torch.tensor(index, dtype=torch.int32), 4, 4, reduce
            )
        assert canvas.abs().sum() == 0


def test_wrong_arguments() -> None:
    canvas, patches = torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 4, 4)
    index = torch.tensor([[0, 1]], dtype=torch.int32)
    with pytest.raises(TypeError, match=r"scatter_patches: expected patches float32, got float64"):
        _native.scatter_patches(canvas, patches.double(), index, 4, 4, "replace")
    with pytest.raises(ValueError, match=r"expected patches \[B\*k,C,P,P\] = \[2, 3, 4, 4\], got"):
        _native.scatter_patches(canvas, patches[:, :2], index, 4, 4, "replace")
    with pytest.raises(ValueError, match=r"expected reduce 'replace' or 'mean', got 'sum'"):
        _native.scatter_patches(canvas, patches, index, 4, 4, "sum")
    with pytest.raises(ValueError, match=r"canvas is written to but dimension 1 is expanded"):
        _native.scatter_patches_(
            torch.zeros(1, 1, 8, 8).expand(1, 3, 8, 8), patches, index, 4, 4, "replace"
        )


@each_reduce
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
def test_thread_count_changes_nothing(layout: str, reduce: str, isa: str) -> None:
    case = Case(2, 16, 64, 72, p=5, halo=0, stride=3, k=0.8)
    canvas, patches, index = (
        case.map(layout=layout),
        case.patches(torch.float32, layout),
        case.index(),
    )
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        out = _native.scatter_patches(canvas, patches, index, 5, 3, reduce)
        in_place = canvas.clone()
        _native.scatter_patches_(in_place, patches, index, 5, 3, reduce)
        results.append(
            (out, in_place, *_native.scatter_patches_backward(canvas, index, 5, 3, reduce))
        )
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)
    assert torch.equal(results[0][0], results[0][1])
