"""``masked_conv2d`` on every backend against a sum over taps and channels."""

from __future__ import annotations

import masked_cases
import oracle
import pytest
import torch
from masked_cases import assert_close
from torch import Tensor

from sparsesr import use_backend
from sparsesr.ops import masked_conv2d, reference

# batch, input and output channels, height, width, kernel
CASES = [
    (1, 3, 5, 6, 7, 3),
    (2, 16, 8, 9, 12, 3),
    (2, 4, 1, 5, 5, 1),
    (1, 1, 3, 1, 1, 3),  # one pixel
    (1, 2, 64, 1, 9, 5),  # one row, wider kernel than map
]
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=str)
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)


@pytest.fixture
def device(backend: str, device: torch.device) -> torch.device:
    """The device of the backend, where it has the op."""
    masked_cases.require(backend, "masked_conv2d")
    return device


def _inputs(case: tuple, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    batch, cin, cout, height, width, side = case
    rng = masked_cases.generator()
    x = torch.randn(batch, cin, height, width, generator=rng)
    weight = torch.randn(cout, cin, side, side, generator=rng) / (cin * side * side) ** 0.5
    return x.to(dtype), weight.to(dtype), torch.randn(cout, generator=rng).to(dtype)


@EVERY_CASE
@DTYPES
@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
def test_equals_the_sum(
    backend: str, device: torch.device, case: tuple, dtype: torch.dtype, with_bias: bool
) -> None:
    masked_cases.require(backend, "masked_conv2d", dtype)
    x, weight, bias = _inputs(case, dtype)
    bias = bias if with_bias else None
    for name, mask in masked_cases.masks(x.shape[0], *x.shape[2:]).items():
        there = [None if t is None else t.to(device) for t in (x, weight, bias, mask)]
        got = masked_conv2d(*there)
        exact = [None if t is None else t.double() for t in (x, weight, bias)]
        expected = masked_cases.conv2d(*exact, mask)
        assert_close(got, expected, reference.masked_conv2d(x, weight, bias, mask), name)
        assert got.cpu()[~mask.expand_as(got)].eq(0).all(), name


@EVERY_CASE
def test_every_layout(backend: str, device: torch.device, case: tuple) -> None:
    x, weight, bias = _inputs(case)
    mask = masked_cases.masks(x.shape[0], *x.shape[2:])["random"]
    expected = masked_cases.conv2d(x.double(), weight.double(), bias.double(), mask)
    plain = reference.masked_conv2d(x, weight, bias, mask)
    for name, view in oracle.layouts(x.to(device)).items():
        for kernel in (weight, weight.contiguous(memory_format=torch.channels_last)):
            got = masked_conv2d(view, kernel.to(device), bias.to(device), mask.to(device))
            assert_close(got, expected, plain, name)
        spread = mask.to(device).transpose(2, 3).contiguous().transpose(2, 3)
        assert_close(
            masked_conv2d(view, weight.to(device), bias.to(device), spread), expected, plain, name
        )
        if name.startswith("channels_last") and x.shape[1] > 1:
            assert got.is_contiguous(memory_format=torch.channels_last), name
        else:
            assert got.is_contiguous(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_backward_equals_autograd_of_the_sum(
    backend: str, device: torch.device, dtype: torch.dtype
) -> None:
    masked_cases.require(backend, "masked_conv2d", dtype)
    given = _inputs(CASES[1], dtype)
    mask = masked_cases.masks(2, *given[0].shape[2:])["random"]
    exact = [t.double().requires_grad_() for t in given]
    y = masked_cases.conv2d(*exact, mask)
    grad = torch.randn(y.shape, generator=masked_cases.generator(3), dtype=torch.float64)
    expected = torch.autograd.grad(y, exact, grad)
    leaves = [t.to(device).requires_grad_() for t in given]
    out = masked_conv2d(*leaves, mask.to(device))
    got = torch.autograd.grad(out, leaves, grad.to(device, dtype))
    # Sums of at most 2 * 9 * 12 terms of size about 1.
    for mine, theirs in zip(got, expected, strict=True):
        bound = 216 * torch.finfo(dtype).eps
        torch.testing.assert_close(mine.cpu().double(), theirs, rtol=bound, atol=bound)


def test_gradcheck() -> None:
    x, weight, bias = (t.requires_grad_() for t in _inputs((2, 2, 3, 3, 4, 3), torch.float64))
    mask = masked_cases.masks(2, 3, 4)["random"]
    with use_backend("reference"):
        check = lambda *leaves: masked_conv2d(*leaves, mask)  # noqa: E731
        assert torch.autograd.gradcheck(check, (x, weight, bias))
        assert torch.autograd.gradgradcheck(check, (x, weight, bias))


def test_only_what_wants_a_gradient_gets_one() -> None:
    x, weight, _ = _inputs(CASES[0])
    weight.requires_grad_()
    mask = masked_cases.masks(1, 6, 7)["random"]
    masked_conv2d(x, weight, None, mask).sum().backward()
    assert weight.grad is not None
    assert x.grad is None
    with torch.no_grad():
        assert not masked_conv2d(x, weight, None, mask).requires_grad


def test_compiles_whole() -> None:
    x, weight, bias = _inputs(CASES[0])
    mask = masked_cases.masks(1, 6, 7)["random"]
    weight.requires_grad_()

    def step(x: Tensor) -> Tensor:
        return masked_conv2d(x, weight, bias, mask).square().sum()

    with use_backend("reference"):
        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), step(x))
        torch.testing.assert_close(
            torch.autograd.grad(compiled(x), weight), torch.autograd.grad(step(x), weight)
        )


def test_no_input_channels(backend: str, device: torch.device) -> None:
    """A sum of nothing: the bias, where the mask is."""
    masked_cases.require(backend, "masked_conv2d")
    x = torch.zeros(2, 0, 4, 5, device=device)
    weight = torch.zeros(6, 0, 3, 3, device=device)
    bias = torch.arange(6.0, device=device).requires_grad_()
    mask = masked_cases.masks(2, 4, 5)["random"].to(device)
    y = masked_conv2d(x, weight, bias, mask)
    assert torch.equal(y, bias[:, None, None] * mask)
    y.sum().backward()
    assert bias.grad is not None
    assert torch.equal(bias.grad, mask.sum().float().expand(6))


X, WEIGHT, BIAS = torch.zeros(2, 3, 4, 5), torch.zeros(6, 3, 3, 3), torch.zeros(6)
MASK = torch.zeros(2, 1, 4, 5, dtype=torch.bool)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((X[0], WEIGHT, BIAS, MASK), ValueError, r"x \[B,C,H,W\], got shape \(3, 4, 5\)"),
        ((X.int(), WEIGHT, BIAS, MASK), TypeError, "x in float32, .*got int32"),
        ((X, WEIGHT.double(), BIAS, MASK), TypeError, "weight in float32 on cpu as x"),
        ((X, WEIGHT[:, :2], BIAS, MASK), ValueError, r"weight \[Cout,3,k,k\] with k odd"),
        ((X, WEIGHT[..., :2, :2], BIAS, MASK), ValueError, "k odd for x of 3 channels"),
        ((X, WEIGHT[..., :1], BIAS, MASK), ValueError, r"got \[6, 3, 3, 1\]"),
        ((X, WEIGHT, BIAS[:5], MASK), ValueError, r"bias \[6\], got \[5\]"),
        ((X, WEIGHT, BIAS.half(), MASK), TypeError, "bias in float32 on cpu as x, got float16"),
        ((X, WEIGHT, BIAS, None), TypeError, r"mask \[B,1,H,W\] bool on cpu, got NoneType"),
        (
            (X, WEIGHT, BIAS, MASK.float()),
            TypeError,
            r"mask \[B,1,H,W\] bool on cpu, got float32; threshold it: mask > 0.5",
        ),
        ((X, WEIGHT, BIAS, MASK.to("meta")), TypeError, "bool on cpu as x, got bool on meta"),
        (
            (X, WEIGHT, BIAS, MASK[..., :4]),
            ValueError,
            r"mask \[2, 1, 4, 5\] \(one entry per pixel of x \[2, 3, 4, 5\]\), got \[2, 1, 4, 4\]",
        ),
        ((X, WEIGHT, BIAS, MASK[:1]), ValueError, r"got \[1, 1, 4, 5\]"),
    ],
)
def test_bad_input(arguments: tuple, error: type, text: str) -> None:
    with pytest.raises(error, match=f"^masked_conv2d: .*{text}"):
        masked_conv2d(*arguments)
