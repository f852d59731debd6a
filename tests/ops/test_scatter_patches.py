"""``scatter_patches`` on every backend against a loop: both ways, in and out of place."""

from __future__ import annotations

import oracle
import pytest
import torch
from oracle import CASES, Case
from torch import Tensor

from sparsesr.ops import scatter_patches, scatter_patches_

EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=str)
REDUCE = pytest.mark.parametrize("reduce", ["replace", "mean"])
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)


def _inputs(case: Case, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    size = (case.batch, case.channels, case.height, case.width)
    canvas = torch.randn(size, generator=generator).to(dtype)
    count = case.batch * case.k
    patches = torch.randn(count, case.channels, case.patch, case.patch, generator=generator)
    return canvas, patches.to(dtype), oracle.random_index(case)


def _tolerance(dtype: torch.dtype, expected: Tensor, cover: int) -> Tensor:
    """One rounding to ``dtype`` after an accumulation in float32 (float64)."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    eps = torch.finfo(dtype).eps + cover * torch.finfo(wide).eps
    return eps * (expected.abs() + 1)


@EVERY_CASE
@DTYPES
@REDUCE
def test_equals_the_loop(
    backend: str, device: torch.device, case: Case, dtype: torch.dtype, reduce: str
) -> None:
    canvas, patches, index = _inputs(case, dtype)
    expected = oracle.scatter(case, canvas.double(), patches.double(), index, reduce)
    sides = -(-case.patch // case.stride)
    for name, view in oracle.layouts(canvas.to(device)).items():
        out = scatter_patches(
            view, patches.to(device), index.to(device), case.patch, case.stride, reduce
        )
        error = (out.cpu().double() - expected).abs()
        assert (error <= _tolerance(dtype, expected, sides**2)).all(), name
        if reduce == "replace":
            assert torch.equal(out.cpu().double(), expected), name
        assert torch.equal(view.cpu(), canvas), f"{name}: the canvas was written"
        result = scatter_patches_(
            view, patches.to(device), index.to(device), case.patch, case.stride, reduce
        )
        assert result is view
        assert torch.equal(view, out), name


@REDUCE
def test_in_place_touches_nothing_around_a_slice(
    backend: str, device: torch.device, reduce: str
) -> None:
    case = Case(2, 3, 9, 10, 4, 0, 2, 6)
    canvas, patches, index = _inputs(case)
    frame = torch.full((2, 5, 13, 14), 7.0, device=device)
    inner = frame[:, 1:4, 2:11, 2:12]
    inner.copy_(canvas)
    scatter_patches_(inner, patches.to(device), index.to(device), 4, 2, reduce)
    inner.fill_(7.0)
    assert frame.eq(7.0).all()


@EVERY_CASE
@REDUCE
def test_patches_in_any_layout(backend: str, device: torch.device, case: Case, reduce: str) -> None:
    canvas, patches, index = _inputs(case)
    expected = oracle.scatter(case, canvas, patches, index, reduce)
    for name, view in oracle.layouts(patches.to(device)).items():
        for layout in (torch.contiguous_format, torch.channels_last):
            out = scatter_patches(
                canvas.to(device).contiguous(memory_format=layout),
                view,
                index.to(device),
                case.patch,
                case.stride,
                reduce,
            )
            torch.testing.assert_close(out.cpu(), expected, msg=name, check_stride=False)


@EVERY_CASE
@REDUCE
@DTYPES
def test_backward_equals_autograd_of_the_loop(
    backend: str, device: torch.device, case: Case, reduce: str, dtype: torch.dtype
) -> None:
    canvas, patches, index = _inputs(case, dtype)
    exact = [canvas.double().requires_grad_(), patches.double().requires_grad_()]
    reference = oracle.scatter(case, exact[0], exact[1], index, reduce)
    grad = torch.randn(reference.shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    expected = torch.autograd.grad(reference, exact, grad.double(), allow_unused=True)
    for layout in (torch.contiguous_format, torch.channels_last):
        inputs = [
            t.to(device).contiguous(memory_format=layout).requires_grad_()
            for t in (canvas, patches)
        ]
        out = scatter_patches(*inputs, index.to(device), case.patch, case.stride, reduce)
        got = torch.autograd.grad(out, inputs, grad.to(device))
        for have, want in zip(got, expected, strict=True):
            want = torch.zeros_like(have.double()) if want is None else want
            error = (have.cpu().double() - want.cpu()).abs()
            assert (error <= _tolerance(dtype, want.cpu(), 1)).all()


@REDUCE
@pytest.mark.parametrize("stride", [2, 4])
def test_gradcheck(backend: str, device: torch.device, reduce: str, stride: int) -> None:
    case = Case(2, 2, 7, 6, 4, 0, stride, 2)
    canvas, patches, index = (t.to(device) for t in _inputs(case, torch.float64))
    inputs = (canvas.requires_grad_(), patches.requires_grad_())
    check = lambda c, p: scatter_patches(c, p, index, 4, stride, reduce)  # noqa: E731
    assert torch.autograd.gradcheck(check, inputs)
    assert torch.autograd.gradgradcheck(check, inputs)


@REDUCE
def test_in_place_keeps_the_gradient(backend: str, device: torch.device, reduce: str) -> None:
    case = Case(1, 2, 8, 8, 4, 0, 2, 3)
    canvas, patches, index = (t.to(device) for t in _inputs(case))
    leaf = [canvas.clone().requires_grad_(), patches.clone().requires_grad_()]
    out = scatter_patches(*leaf, index, 4, 2, reduce)
    expected = torch.autograd.grad(out.square().sum(), leaf)
    product = leaf[0] * 1  # in place on a non-leaf
    scatter_patches_(product, leaf[1], index, 4, 2, reduce)
    got = torch.autograd.grad(product.square().sum(), leaf)
    for have, want in zip(got, expected, strict=True):
        torch.testing.assert_close(have, want)


def test_order_of_the_index_decides_between_overlapping_patches(
    backend: str, device: torch.device
) -> None:
    patches = torch.tensor([1.0, 2.0], device=device).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
    canvas = torch.zeros(1, 1, 2, 3, device=device)
    rising = torch.tensor([[0, 1]], dtype=torch.int32, device=device)
    out = scatter_patches(canvas, patches, rising, 2, stride=1)
    assert out[0, 0, 0].tolist() == [1, 2, 2]
    out = scatter_patches(canvas, patches, rising.flip(1), 2, stride=1)
    # Now patch 1 (value 1) comes first and patch 0 (value 2) is written over it.
    assert out[0, 0, 0].tolist() == [2, 2, 1]


@REDUCE
def test_two_runs_are_bit_equal(backend: str, device: torch.device, reduce: str) -> None:
    case = Case(2, 12, 40, 50, 4, 0, 2, 90)
    canvas, patches, index = (t.to(device) for t in _inputs(case))
    runs = [scatter_patches(canvas, patches, index, 4, 2, reduce) for _ in range(2)]
    assert torch.equal(*runs)


@REDUCE
@pytest.mark.parametrize(
    ("index", "text"), [([0, 4], r"in \[0, 4\).*got 4"), ([1, 1], "got 1 a second time")]
)
def test_bad_index_leaves_the_canvas_alone(
    backend: str, device: torch.device, reduce: str, index: list[int], text: str
) -> None:
    if device.type != "cpu":
        pytest.skip("checked on the CPU only: elsewhere looking would synchronise")
    canvas = torch.zeros(1, 1, 8, 8)
    where = torch.tensor([index], dtype=torch.int32)
    with pytest.raises(ValueError, match=text):
        scatter_patches_(canvas, torch.ones(2, 1, 4, 4), where, 4, None, reduce)
    assert canvas.eq(0).all()


@pytest.mark.parametrize("reduce", ["replace", "mean"])
def test_no_channels(backend: str, device: torch.device, reduce: str) -> None:
    index = torch.tensor([[0, 2], [1, 3]], dtype=torch.int32, device=device)
    canvas = torch.zeros(2, 0, 8, 8, device=device, requires_grad=True)
    patches = torch.zeros(4, 0, 4, 4, device=device, requires_grad=True)
    out = scatter_patches(canvas, patches, index, 4, reduce=reduce)
    assert out.shape == canvas.shape
    out.sum().backward()
    assert patches.grad is not None
    assert patches.grad.shape == patches.shape


CANVAS, PATCHES = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)
INDEX = torch.zeros(1, 1, dtype=torch.int32)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((CANVAS[0], PATCHES, INDEX, 4), ValueError, r"canvas \[B,C,H,W\], got shape"),
        ((CANVAS, PATCHES.double(), INDEX, 4), TypeError, "patches in float32 on cpu as canvas"),
        ((CANVAS, PATCHES[:, :1], INDEX, 4), ValueError, r"patches \[1, 2, 4, 4\] for 1 indices"),
        ((CANVAS, PATCHES, INDEX, 2), ValueError, r"expected patches \[1, 2, 2, 2\]"),
        ((CANVAS, PATCHES, INDEX.long(), 4), TypeError, "int32 on cpu, got int64"),
        ((CANVAS, PATCHES, INDEX, 4, None, "sum"), ValueError, "'replace' or 'mean', got 'sum'"),
        ((CANVAS, PATCHES, INDEX, 4, 0), ValueError, "stride >= 1"),
    ],
)
@pytest.mark.parametrize("op", [scatter_patches, scatter_patches_], ids=lambda f: f.__name__)
def test_bad_input(op: object, arguments: tuple, error: type, text: str) -> None:
    with pytest.raises(error, match=f"^{op.__name__}: .*{text}"):
        op(*arguments)
