"""``masked_block`` on every backend against the formula told channel by channel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import masked_cases
import oracle
import pytest
import torch
from masked_cases import assert_close
from torch import Tensor

from sparsesr import use_backend
from sparsesr.ops import masked_block, reference


@dataclass(frozen=True)
class Case:
    """A block: its size and how many channels of each layer are dense."""

    batch: int
    height: int
    width: int
    channels: int
    outputs: int
    dense: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.batch}x{self.channels}x{self.height}x{self.width}-{self.dense}"


CASES = [
    Case(1, 7, 9, 16, 16, (6, 2, 1, 0)),  # as in the published weights
    Case(2, 5, 6, 8, 8, (0, 0, 0, 0)),  # nothing is dense
    Case(2, 9, 5, 8, 3, (8, 8, 8)),  # everything is
    Case(1, 1, 1, 4, 4, (1, 0)),  # one pixel
    Case(1, 6, 17, 5, 6, (3,)),  # one layer, odd channels
    Case(1, 9, 21, 64, 64, (24, 9, 3, 0)),
]
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=str)
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)


@pytest.fixture
def device(backend: str, device: torch.device) -> torch.device:
    """The device of the backend, where it has the op."""
    masked_cases.require(backend, "masked_block")
    return device


@dataclass
class Inputs:
    """The arguments of the op but the mask."""

    x: Tensor
    weights: list[Tensor]
    collect_weight: Tensor
    collect_bias: Tensor | None
    dense: Tensor

    def to(self, *target: object) -> Inputs:
        bias = None if self.collect_bias is None else self.collect_bias.to(*target)
        weights = [w.to(*target) for w in self.weights]
        x, collect = self.x.to(*target), self.collect_weight.to(*target)
        return Inputs(x, weights, collect, bias, self.dense)

    def on(self, mask: Tensor) -> tuple:
        return (self.x, self.weights, self.collect_weight, self.collect_bias, self.dense, mask)

    def leaves(self) -> list[Tensor]:
        bias = [] if self.collect_bias is None else [self.collect_bias]
        return [self.x, *self.weights, self.collect_weight, *bias]


def _inputs(case: Case, dtype: torch.dtype = torch.float32, bias: bool = True) -> Inputs:
    rng, c, layers = masked_cases.generator(), case.channels, len(case.dense)
    x = torch.randn(case.batch, c, case.height, case.width, generator=rng)
    weights = [torch.randn(c, c, 3, 3, generator=rng) * (2 / (9 * c)) ** 0.5 for _ in case.dense]
    collect = torch.randn(case.outputs, layers * c, 1, 1, generator=rng) / (layers * c) ** 0.5
    offset = torch.randn(case.outputs, generator=rng) if bias else None
    dense = torch.zeros(layers, c, dtype=torch.bool)
    for row, count in zip(dense, case.dense, strict=True):
        row[torch.randperm(c, generator=rng)[:count]] = True
    return Inputs(x, weights, collect, offset, dense).to(dtype)


def _masks(case: Case) -> dict[str, Tensor]:
    return masked_cases.masks(case.batch, case.height, case.width)


@EVERY_CASE
@DTYPES
def test_equals_the_formula(
    backend: str, device: torch.device, case: Case, dtype: torch.dtype
) -> None:
    masked_cases.require(backend, "masked_block", dtype)
    for name, mask in _masks(case).items():
        given = _inputs(case, dtype, bias=name != "corner")
        got = masked_block(*given.to(device).on(mask.to(device)))
        exact = masked_cases.block(*given.to(torch.float64).on(mask))
        assert_close(got, exact, reference.masked_block(*given.on(mask)), name)


@EVERY_CASE
def test_every_layout(backend: str, device: torch.device, case: Case) -> None:
    given, mask = _inputs(case), _masks(case)["random"]
    exact = masked_cases.block(*given.to(torch.float64).on(mask))
    plain = reference.masked_block(*given.on(mask))
    there = given.to(device)
    spread = mask.to(device).transpose(2, 3).contiguous().transpose(2, 3)
    for name, view in oracle.layouts(there.x).items():
        got = masked_block(*replace(there, x=view).on(spread))
        assert_close(got, exact, plain, name)
        wanted = torch.contiguous_format
        if name.startswith("channels_last") and case.channels > 1:
            wanted = torch.channels_last
        assert got.is_contiguous(memory_format=wanted), name
    folded = [w.contiguous(memory_format=torch.channels_last) for w in there.weights]
    assert_close(masked_block(*replace(there, weights=folded).on(spread)), exact, plain)


def test_images_of_a_batch_do_not_meet(backend: str, device: torch.device) -> None:
    given, mask = _inputs(CASES[1]).to(device), _masks(CASES[1])["random"].to(device)
    whole = masked_block(*given.on(mask))
    for i in range(2):
        alone = masked_block(*replace(given, x=given.x[i : i + 1]).on(mask[i : i + 1]))
        # Another batch may be summed in another order.
        torch.testing.assert_close(whole[i : i + 1], alone, rtol=1e-5, atol=1e-5)


def test_a_changed_weight_is_seen(backend: str, device: torch.device) -> None:
    """A backend may keep what it made of the weights; a write in place must reach it."""
    given, mask = _inputs(CASES[0]).to(device), _masks(CASES[0])["random"].to(device)
    before = masked_block(*given.on(mask))
    given.weights[1].mul_(2)
    doubled = masked_block(*given.on(mask))
    torch.testing.assert_close(
        doubled.cpu(), reference.masked_block(*given.to("cpu").on(mask.cpu())), rtol=1e-5, atol=1e-5
    )
    assert not torch.allclose(before, doubled)
    given.dense.logical_not_()
    flipped = masked_block(*given.on(mask))
    torch.testing.assert_close(
        flipped.cpu(), reference.masked_block(*given.to("cpu").on(mask.cpu())), rtol=1e-5, atol=1e-5
    )


def test_two_runs_are_bit_equal(backend: str, device: torch.device) -> None:
    given, mask = _inputs(CASES[-1]).to(device), _masks(CASES[-1])["random"].to(device)
    assert torch.equal(masked_block(*given.on(mask)), masked_block(*given.on(mask)))


@EVERY_CASE
def test_backward_equals_autograd_of_the_formula(
    backend: str, device: torch.device, case: Case
) -> None:
    for name in ("random", "empty"):
        mask = _masks(case)[name]
        exact = _inputs(case, torch.float64)
        theirs = [t.requires_grad_() for t in exact.leaves()]
        y = masked_cases.block(*exact.on(mask))
        grad = torch.randn(y.shape, generator=masked_cases.generator(3), dtype=torch.float64)
        expected = torch.autograd.grad(y, theirs, grad)
        given = _inputs(case).to(device)
        mine = [t.requires_grad_() for t in given.leaves()]
        out = masked_block(*given.on(mask.to(device)))
        got = torch.autograd.grad(out, mine, grad.float().to(device))
        for a, b in zip(got, expected, strict=True):
            # A ReLU whose input rounds across zero moves a sum by about its own rounding.
            bound = 1e-4 * max(1.0, float(b.abs().max()))
            torch.testing.assert_close(a.cpu().double(), b, rtol=0, atol=bound)


def test_gradcheck() -> None:
    given = _inputs(Case(2, 3, 4, 3, 2, (1, 0)), torch.float64)
    mask = masked_cases.masks(2, 3, 4)["random"]
    leaves = [t.requires_grad_() for t in given.leaves()]

    def check(x: Tensor, first: Tensor, second: Tensor, collect: Tensor, bias: Tensor) -> Tensor:
        return masked_block(x, [first, second], collect, bias, given.dense, mask)

    with use_backend("reference"):
        assert torch.autograd.gradcheck(check, leaves)
        assert torch.autograd.gradgradcheck(check, leaves)


def test_one_input_made_from_another() -> None:
    """The gradient stops at the op's inputs, or a shared one would be counted twice."""
    given = _inputs(Case(1, 4, 4, 3, 3, (1, 1)), torch.float64, bias=False)
    mask = masked_cases.masks(1, 4, 4)["random"]
    first = given.weights[0].requires_grad_()
    grads = []
    for op in (masked_block, reference.masked_block):
        y = op(given.x, [first, 2 * first], given.collect_weight, None, given.dense, mask)
        grads.append(*torch.autograd.grad(y.square().sum(), first, create_graph=True))
    torch.testing.assert_close(*grads)


def test_compiles_whole() -> None:
    given, mask = _inputs(CASES[0]), _masks(CASES[0])["random"]
    leaves = [t.requires_grad_() for t in given.leaves()]

    def step(mask: Tensor) -> Tensor:
        return masked_block(*given.on(mask)).square().sum()

    with use_backend("reference"):
        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(mask), step(mask))
        torch.testing.assert_close(
            torch.autograd.grad(compiled(mask), leaves), torch.autograd.grad(step(mask), leaves)
        )


GOOD = _inputs(Case(2, 4, 5, 3, 6, (1, 0)))
MASK = torch.zeros(2, 1, 4, 5, dtype=torch.bool)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"x": GOOD.x[0]}, ValueError, r"x \[B,C,H,W\], got shape \(3, 4, 5\)"),
        ({"weights": []}, ValueError, "at least one layer in weights"),
        (
            {"weights": [GOOD.weights[0], GOOD.weights[1][:, :2]]},
            ValueError,
            r"weights\[1\] \[3, 3, 3, 3\] for x of 3 channels, got \[3, 2, 3, 3\]",
        ),
        (
            {"weights": [GOOD.weights[0].half(), GOOD.weights[1]]},
            TypeError,
            r"weights\[0\] in float32 on cpu as x, got float16",
        ),
        (
            {"collect_weight": GOOD.collect_weight[:, :3]},
            ValueError,
            r"collect_weight \[6, 6, 1, 1\] for x of 3 channels, got \[6, 3, 1, 1\]",
        ),
        ({"collect_bias": torch.zeros(5)}, ValueError, r"collect_bias \[6\], got \[5\]"),
        ({"dense": GOOD.dense.float()}, TypeError, r"dense \[L,C\] bool, got float32"),
        ({"dense": None}, TypeError, r"dense \[L,C\] bool, got NoneType"),
        (
            {"dense": GOOD.dense[:1]},
            ValueError,
            r"dense \[2,3\] \(one row per layer of weights.*got \[1, 3\]",
        ),
        ({"mask": MASK.float()}, TypeError, "bool on cpu, got float32; threshold it: mask > 0.5"),
        ({"mask": MASK[:, 0]}, ValueError, r"mask \[2, 1, 4, 5\].*got \[2, 4, 5\]"),
        ({"mask": MASK[..., 1:]}, ValueError, r"got \[2, 1, 4, 4\]"),
    ],
)
def test_bad_input(change: dict, error: type, text: str) -> None:
    arguments = {**vars(GOOD), "mask": MASK, **change}
    with pytest.raises(error, match=f"^masked_block: .*{text}"):
        masked_block(**arguments)
