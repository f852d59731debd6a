"""``refine_patches_`` on every backend: windows, the program, patches where they lie."""

from __future__ import annotations

import re

import oracle
import program_cases
import pytest
import torch
from masked_cases import assert_close, require
from oracle import Case
from program_cases import INPUTS, NETS, SINGLES, SMALL, Net, Single, growth
from torch import Tensor

from sparsesr import use_backend
from sparsesr.ops import reference, refine_patches_
from sparsesr.ops.run_program import result_shape

DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)
EVERY_NET = pytest.mark.parametrize("net", NETS, ids=str)
EVERY_SMALL = pytest.mark.parametrize("net", SMALL, ids=str)
OP = "refine_patches_"

# (batch, height, width, k) of maps with patches of 4x4 px and a halo of one.
MAPS = {
    "all": (1, 8, 8, 4),
    "odd": (2, 9, 14, 7),  # border patches are cut
    "tiny": (2, 3, 2, 1),
    "one pixel": (1, 1, 1, 1),
    "one patch": (2, 13, 6, 1),
    "none": (2, 9, 14, 0),
}


def _case(size: str, channels: int, patch: int = 4, halo: int = 1) -> Case:
    batch, height, width, k = MAPS[size]
    return Case(batch, channels, height, width, patch, halo, patch, k)


def _scale(net: Net) -> tuple[int, int]:
    """Channels of the image and how many times a patch of 4 px grows."""
    channels, side, _ = result_shape(OP, net.weights, net.text, (net.channels, 6, 6))
    return channels, side // 4


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Given:
    """A canvas, a feature map and an index, and what the loops make of them."""

    def __init__(self, case: Case, outputs: int, scale: int, dtype: torch.dtype) -> None:
        self.case = case
        size = (scale * case.height, scale * case.width)
        side = scale * case.patch
        self.image = Case(case.batch, outputs, *size, side, 0, side, case.k)
        self.feature = _random(case.batch, case.channels, case.height, case.width).to(dtype)
        self.canvas = _random(case.batch, outputs, *size, seed=1).to(dtype)
        self.index = oracle.random_index(case)

    def expected(self, patches: Tensor) -> Tensor:
        canvas = self.canvas.to(patches.dtype)
        return oracle.scatter(self.image, canvas, patches, self.index, "replace")

    def windows(self) -> Tensor:
        return oracle.gather(self.case, self.feature.double(), self.index)

    def exact(self, net: Net, dtype: torch.dtype) -> Tensor:
        if self.index.numel() == 0:
            return self.canvas.double()
        weights = [w.to(dtype).double() for w in net.weights]
        return self.expected(reference.run_program(self.windows(), weights, net.text))

    def plain(self, weights: list[Tensor], text: str) -> Tensor:
        """The reference in this dtype."""
        canvas, case = self.canvas.clone(), self.case
        reference.refine_patches_(
            canvas, self.feature, self.index, weights, text, case.patch, case.halo
        )
        return canvas

    def run(self, weights: list[Tensor], text: str, device: torch.device) -> Tensor:
        canvas, case = self.canvas.to(device, copy=True), self.case
        feature, index = self.feature.to(device), self.index.to(device)
        there = [w.to(device) for w in weights]
        got = refine_patches_(canvas, feature, index, there, text, case.patch, case.halo)
        assert got is canvas
        return canvas


@pytest.mark.parametrize("single", [s for s in SINGLES if growth(s, 6)], ids=str)
@DTYPES
def test_a_step(backend: str, device: torch.device, single: Single, dtype: torch.dtype) -> None:
    """Patches without a halo through one step, of those that make square patches."""
    require(backend, OP, dtype)
    scale = growth(single, 6)
    weights = single.weights(dtype)
    shape = result_shape(OP, weights, single.text, (INPUTS, 6, 6))
    given = Given(_case("odd", INPUTS, 6, 0), shape[0], scale, dtype)
    given.index = given.index[:, :5]
    exact = given.expected(single.expected(given.windows(), *(w.double() for w in weights)))
    got = given.run(weights, single.text, device)
    assert_close(got, exact, given.plain(weights, single.text), single.name)


@EVERY_NET
@DTYPES
def test_a_network(backend: str, device: torch.device, net: Net, dtype: torch.dtype) -> None:
    require(backend, OP, dtype)
    weights = net.cast(dtype)
    given = Given(_case("odd", net.channels), *_scale(net), dtype)
    got = given.run(weights, net.text, device)
    assert_close(got, given.exact(net, dtype), given.plain(weights, net.text))


@EVERY_SMALL
@pytest.mark.parametrize("size", MAPS, ids=lambda s: s.replace(" ", "-"))
def test_every_size(backend: str, device: torch.device, net: Net, size: str) -> None:
    require(backend, OP)
    given = Given(_case(size, net.channels), *_scale(net), torch.float32)
    got = given.run(net.weights, net.text, device)
    assert_close(got, given.exact(net, torch.float32), given.plain(net.weights, net.text))
    image = given.image
    marks = torch.full((given.index.numel(), image.channels, image.patch, image.patch), torch.nan)
    untouched = ~given.expected(marks).isnan()
    assert torch.equal(got.cpu()[untouched], given.canvas[untouched])


@EVERY_SMALL
def test_every_layout(backend: str, device: torch.device, net: Net) -> None:
    """Of the map, of the image and of the weights, every one in turn."""
    require(backend, OP)
    given = Given(_case("odd", net.channels), *_scale(net), torch.float32)
    exact, plain = given.exact(net, torch.float32), given.plain(net.weights, net.text)
    spread = [w.transpose(0, -1).contiguous().transpose(0, -1) for w in net.cast(device)]
    features = oracle.layouts(given.feature.to(device))
    canvases = oracle.layouts(given.canvas.to(device))
    names = list(features)
    index = given.index.to(device).t().contiguous().t()
    for name, other in zip(names, [*names[1:], names[0]], strict=True):
        canvas = canvases[other]
        refine_patches_(canvas, features[name], index, spread, net.text, 4)
        assert_close(canvas, exact, plain, f"{name} to {other}")


def test_what_lies_around_a_slice_is_kept(backend: str, device: torch.device) -> None:
    require(backend, OP)
    net = program_cases.fsrcnn(5, 4)
    given = Given(_case("odd", 5), 3, 4, torch.float32)
    canvas = oracle.layouts(given.canvas.to(device))["channels_last slice"]
    whole = canvas._base
    assert whole is not None
    before = whole.clone()
    refine_patches_(
        canvas, given.feature.to(device), given.index.to(device), net.cast(device), net.text, 4
    )
    whole[:, 1:4, 2:-1, 3:-2] = before[:, 1:4, 2:-1, 3:-2]
    assert torch.equal(whole, before)


def test_a_changed_weight_is_seen(backend: str, device: torch.device) -> None:
    """A backend may keep what it made of the weights; a write in place must reach it."""
    require(backend, OP)
    net = program_cases.fsrcnn(5, 2)
    given = Given(_case("all", 5), 3, 2, torch.float32)
    net.weights = [w.to(device) for w in net.weights]
    given.run(net.weights, net.text, device)
    for weight in net.weights:
        weight.mul_(1.5)
    got = given.run(net.weights, net.text, device)
    net.weights = [w.cpu() for w in net.weights]
    assert_close(got, given.exact(net, torch.float32), given.plain(net.weights, net.text))


@EVERY_SMALL
def test_two_runs_are_bit_equal(backend: str, device: torch.device, net: Net) -> None:
    require(backend, OP)
    given = Given(_case("odd", net.channels), *_scale(net), torch.float32)
    runs = [given.run(net.weights, net.text, device) for _ in range(2)]
    assert torch.equal(*runs)


def test_an_index_that_is_none(backend: str, device: torch.device) -> None:
    """On the CPU, where looking is free; a GPU leaves such patches out."""
    require(backend, OP)
    if device.type != "cpu":
        pytest.skip("the values of an index on a GPU are not looked at")
    net = program_cases.fsrcnn(5, 2)
    given = Given(_case("all", 5), 3, 2, torch.float32)
    for values, bad in (([0, 1, 2, 4], "4"), ([0, 1, 1, 3], "1")):
        given.index = torch.tensor([values], dtype=torch.int32)
        with pytest.raises(ValueError, match=f"got {bad}|index {bad}|patch {bad}"):
            given.run(net.weights, net.text, device)


def test_gradcheck() -> None:
    """Under grad mode: through the canvas, the map and the weights."""
    net = program_cases.rfdn(4)
    case = Case(2, 4, 5, 6, 4, 1, 4, 2)
    feature = _random(2, 4, 5, 6).double().requires_grad_()
    canvas = _random(2, 3, 20, 24, seed=1).double().requires_grad_()
    weights = [w.double().requires_grad_() for w in net.weights]
    index = oracle.random_index(case)

    def run(canvas: Tensor, feature: Tensor, *weights: Tensor) -> Tensor:
        return refine_patches_(canvas.clone(), feature, index, weights, net.text, 4)

    with use_backend("reference"):
        assert torch.autograd.gradcheck(run, (canvas, feature, *weights), fast_mode=True)


@pytest.mark.parametrize("net", SMALL[:4], ids=str)
def test_gradient_reaches_the_canvas(backend: str, device: torch.device, net: Net) -> None:
    """With grad mode and without, the image is the same."""
    if any(not _has(backend, op) for op in (OP, "run_program")):
        pytest.skip(f"backend {backend} does not implement both {OP} and run_program")
    program_cases.require_streamable(backend, net.text, net.weights)
    given = Given(_case("odd", net.channels), *_scale(net), torch.float32)
    weights = [w.clone().requires_grad_() for w in net.weights]
    got = given.run(weights, net.text, device)
    assert got.requires_grad
    assert_close(got.detach(), given.exact(net, torch.float32), given.plain(net.weights, net.text))


def _has(backend: str, op: str) -> bool:
    from sparsesr._backend import _find

    return _find(backend, op) is not None


def test_compiles_whole(backend: str, device: torch.device) -> None:
    require(backend, OP)
    net = program_cases.fsrcnn(5, 3)
    given = Given(_case("odd", 5), 3, 3, torch.float32)
    weights = net.cast(device)

    def step(canvas: Tensor, feature: Tensor, index: Tensor) -> Tensor:
        return refine_patches_(canvas * 1, feature, index, weights, net.text, 4) * 2

    there = [t.to(device) for t in (given.canvas, given.feature, given.index)]
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*there), step(*there))
    assert torch.equal(there[0].cpu(), given.canvas)


def test_compiles_whole_with_gradients() -> None:
    net = program_cases.fsrcnn(4, 2)
    given = Given(_case("odd", 4), 3, 2, torch.float32)
    leaves = [given.feature.requires_grad_(), *(w.requires_grad_() for w in net.weights)]

    def step(feature: Tensor, *weights: Tensor) -> Tensor:
        canvas = given.canvas.clone()
        return refine_patches_(canvas, feature, given.index, weights, net.text, 4).square().sum()

    with use_backend("reference"):
        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(*leaves), step(*leaves))
        torch.testing.assert_close(
            torch.autograd.grad(compiled(*leaves), leaves),
            torch.autograd.grad(step(*leaves), leaves),
        )


def _bad(**change: object) -> dict[str, object]:
    net = program_cases.fsrcnn(5, 2)
    good = {
        "canvas": torch.zeros(2, 3, 18, 28),
        "feature": torch.zeros(2, 5, 9, 14),
        "index": torch.zeros(2, 1, dtype=torch.int32),
        "weights": net.weights,
        "program": net.text,
        "patch_size": 4,
    }
    return {**good, **change}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (_bad(feature=None), TypeError, "expected feature [B,C,H,W] as a tensor, got NoneType"),
        (_bad(canvas=torch.zeros(3, 18, 28)), ValueError, "expected canvas [B,C,H,W], got shape"),
        (
            _bad(canvas=torch.zeros(2, 3, 18, 28).half()),
            TypeError,
            "expected canvas in float32 on cpu as feature, got float16 on cpu",
        ),
        (
            _bad(canvas=torch.zeros(2, 3, 18, 27)),
            ValueError,
            "expected canvas [2, 3, 18, 28] for patches of 4 px (3x4 of them) that become "
            "[3, 8, 8], got [2, 3, 18, 27]",
        ),
        (_bad(index=torch.zeros(2, 1)), TypeError, "expected index [B,k] int32 on cpu, got"),
        (
            _bad(index=torch.zeros(1, 1, dtype=torch.int32)),
            ValueError,
            "expected index [2,k], got shape (1, 1)",
        ),
        (_bad(patch_size=0), ValueError, "expected patch_size >= 1, got 0"),
        (_bad(patch_size=4.0), TypeError, "expected patch_size as an int, got float"),
        (_bad(halo=-1), ValueError, "expected halo >= 0, got -1"),
        (_bad(halo=0), ValueError, "expected canvas [2, 3, 9, 14] for patches of 4 px (3x4 of"),
        (_bad(weights=[]), ValueError, "expected 14 weights for this program, got 0"),
        (_bad(program=None), TypeError, "expected program as a str, got NoneType"),
    ],
)
def test_bad_input(given: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=f"^{OP}: {re.escape(message)}"):
        refine_patches_(**given)
