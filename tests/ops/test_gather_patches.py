"""``gather_patches`` on every backend against a loop, forward and backward."""

from __future__ import annotations

import oracle
import pytest
import torch
from oracle import CASES, Case
from torch import Tensor

from sparsesr import use_backend
from sparsesr.ops import gather_patches

EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=str)
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)


def _map(case: Case, dtype: torch.dtype = torch.float32) -> Tensor:
    size = (case.batch, case.channels, case.height, case.width)
    return torch.randn(size, generator=torch.Generator().manual_seed(0)).to(dtype)


def _gather(case: Case, x: Tensor, index: Tensor) -> Tensor:
    return gather_patches(x, index, case.patch, case.halo, case.stride)


@EVERY_CASE
@DTYPES
def test_equals_the_loop(
    backend: str, device: torch.device, case: Case, dtype: torch.dtype
) -> None:
    x, index = _map(case, dtype), oracle.random_index(case)
    patches = _gather(case, x.to(device), index.to(device))
    assert torch.equal(patches.cpu(), oracle.gather(case, x, index))


@EVERY_CASE
def test_every_layout(backend: str, device: torch.device, case: Case) -> None:
    x, index = _map(case), oracle.random_index(case)
    expected = oracle.gather(case, x, index)
    for name, view in oracle.layouts(x.to(device)).items():
        patches = _gather(case, view, index.to(device))
        assert torch.equal(patches.cpu(), expected), name
        if name.startswith("channels_last") and case.channels > 1:
            assert patches.is_contiguous(memory_format=torch.channels_last), name
        else:
            assert patches.is_contiguous(), name


@EVERY_CASE
@DTYPES
def test_backward_equals_autograd_of_the_loop(
    backend: str, device: torch.device, case: Case, dtype: torch.dtype
) -> None:
    index = oracle.random_index(case)
    exact = _map(case, torch.float64).requires_grad_()
    reference = oracle.gather(case, exact, index) + 0 * exact.sum()  # a graph even for k = 0
    grad = torch.randn(reference.shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    (expected,) = torch.autograd.grad((reference * grad.double()).sum(), exact)

    for name, view in oracle.layouts(_map(case, dtype).to(device)).items():
        x = view.detach().requires_grad_()
        patches = _gather(case, x, index.to(device))
        (got,) = torch.autograd.grad(patches, x, grad.to(device))
        # One rounding of the exact sum, after float32 accumulation of at most `cover` terms.
        cover = (-(-(case.patch + 2 * case.halo) // case.stride)) ** 2
        eps = torch.finfo(dtype).eps + cover * torch.finfo(torch.float32).eps
        eps = eps if dtype != torch.float64 else cover * torch.finfo(dtype).eps
        bound = eps * (expected.abs() + cover)
        assert ((got.cpu().double() - expected).abs() <= bound).all(), name


def test_repeated_index_is_gathered_twice(backend: str, device: torch.device) -> None:
    x = torch.arange(16.0, device=device).reshape(1, 1, 4, 4).requires_grad_()
    index = torch.tensor([[1, 1]], dtype=torch.int32, device=device)
    patches = gather_patches(x, index, 2)
    assert torch.equal(patches[0], patches[1])
    patches.sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0, :2, 2:].eq(2).all()
    assert x.grad.sum() == 8


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_gradcheck(backend: str, device: torch.device, layout: torch.memory_format) -> None:
    case = Case(2, 2, 5, 6, 4, 1, 3, 2)
    index = oracle.random_index(case).to(device)
    x = _map(case, torch.float64).to(device).contiguous(memory_format=layout).requires_grad_()
    check = lambda x: _gather(case, x, index)  # noqa: E731
    assert torch.autograd.gradcheck(check, x)
    assert torch.autograd.gradgradcheck(check, x)


def test_two_runs_are_bit_equal(backend: str, device: torch.device) -> None:
    case = Case(2, 12, 40, 50, 4, 2, 2, 90)
    x, index = _map(case).to(device).requires_grad_(), oracle.random_index(case).to(device)
    runs = []
    for _ in range(2):
        patches = _gather(case, x, index)
        runs.append((patches, *torch.autograd.grad(patches.square().sum(), x)))
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])


def test_backward_runs_on_the_backend_of_the_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparsesr.ops import reference

    called = []
    original = reference.gather_patches_backward
    monkeypatch.setattr(
        reference,
        "gather_patches_backward",
        lambda *a: called.append(True) or original(*a),
    )
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    with use_backend("reference"):
        patches = gather_patches(x, torch.zeros(1, 1, dtype=torch.int32), 4)
    patches.sum().backward()  # outside the with block
    assert called


@pytest.mark.parametrize("bad", [-1, 4, 1000])
def test_index_outside_the_grid(backend: str, device: torch.device, bad: int) -> None:
    if device.type != "cpu":
        pytest.skip("checked on the CPU only: elsewhere looking would synchronise")
    index = torch.tensor([[0, bad]], dtype=torch.int32)
    with pytest.raises(ValueError, match=rf"in \[0, 4\).*got {bad}"):
        gather_patches(torch.zeros(1, 1, 8, 8), index, 4)


def test_no_channels(backend: str, device: torch.device) -> None:
    index = torch.tensor([[0, 2], [1, 3]], dtype=torch.int32, device=device)
    x = torch.zeros(2, 0, 8, 8, device=device, requires_grad=True)
    patches = gather_patches(x, index, 4, 1)
    assert patches.shape == (4, 0, 6, 6)
    patches.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


X, INDEX = torch.zeros(1, 2, 8, 8), torch.zeros(1, 1, dtype=torch.int32)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((X[0], INDEX, 4), ValueError, r"x \[B,C,H,W\], got shape \(2, 8, 8\)"),
        ((X.int(), INDEX, 4), TypeError, "got int32"),
        ((X[:, :, :0], INDEX, 4), ValueError, "at least 1x1 px"),
        ((X, INDEX.long(), 4), TypeError, r"index \[B,k\] int32 on cpu, got int64 on cpu"),
        ((X, INDEX.to("meta"), 4), TypeError, r"int32 on cpu, got int32 on meta"),
        ((X, INDEX[0], 4), ValueError, r"index \[1,k\], got shape \(1,\)"),
        ((X, INDEX.expand(2, 1), 4), ValueError, r"index \[1,k\], got shape \(2, 1\)"),
        ((X, INDEX, 0), ValueError, "patch_size >= 1, got 0"),
        ((X, INDEX, 4, -1), ValueError, "halo >= 0, got -1"),
        ((X, INDEX, 4, 0, 0), ValueError, "stride >= 1, got 0"),
        ((X, INDEX, 4.0), TypeError, "patch_size as an int, got float"),
    ],
)
def test_bad_input(arguments: tuple, error: type, text: str) -> None:
    with pytest.raises(error, match=f"^gather_patches: .*{text}"):
        gather_patches(*arguments)
