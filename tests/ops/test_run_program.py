"""``run_program`` on every backend against loops, and the language of programs."""

from __future__ import annotations

import re

import oracle
import program_cases
import pytest
import torch
from masked_cases import assert_close, require
from program_cases import INPUTS, NETS, SINGLES, WHOLE, Net, Single, require_streamable

from sparsesr import use_backend
from sparsesr.ops import parse_program, reference, run_program, scatter_patches
from sparsesr.ops._program import map_obstacle, value_shapes

DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)
EVERY_SINGLE = pytest.mark.parametrize("single", SINGLES, ids=str)


def _x(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


@EVERY_SINGLE
@DTYPES
def test_a_step(backend: str, device: torch.device, single: Single, dtype: torch.dtype) -> None:
    require(backend, "run_program", dtype)
    weights = single.weights(dtype)
    require_streamable(backend, single.text, weights)
    x = _x(2, INPUTS, 5, 7, dtype=dtype)
    got = run_program(x.to(device), [w.to(device) for w in weights], single.text)
    exact = single.expected(x.double(), *(w.double() for w in weights))
    assert_close(got, exact, reference.run_program(x, weights, single.text), single.name)


@pytest.mark.parametrize("net", [*WHOLE, *NETS], ids=lambda n: f"{n}-{len(n.lines)}")
@DTYPES
def test_a_network(backend: str, device: torch.device, net: Net, dtype: torch.dtype) -> None:
    require(backend, "run_program", dtype)
    weights = net.cast(dtype)
    require_streamable(backend, net.text, weights)
    sizes = [(6, 6)] if net not in WHOLE else [(1, 1), (9, 14), (2, 35), (13, 1)]
    for size in sizes:
        x = _x(2, net.channels, *size, dtype=dtype)
        got = run_program(x.to(device), [w.to(device) for w in weights], net.text)
        exact = reference.run_program(x.double(), [w.double() for w in weights], net.text)
        assert_close(got, exact, reference.run_program(x, weights, net.text), f"{size}")


@pytest.mark.parametrize("net", WHOLE, ids=str)
def test_every_layout(backend: str, device: torch.device, net: Net) -> None:
    require(backend, "run_program")
    x = _x(2, net.channels, 5, 9)
    exact = reference.run_program(x.double(), net.cast(torch.float64), net.text)
    plain = reference.run_program(x, net.weights, net.text)
    spread = [w.transpose(0, -1).contiguous().transpose(0, -1) for w in net.cast(device)]
    for name, view in oracle.layouts(x.to(device)).items():
        got = run_program(view, spread, net.text)
        assert_close(got, exact, plain, name)


def test_covered_patches(backend: str, device: torch.device) -> None:
    """Whatever lies under them, the rest is as it would be."""
    require(backend, "run_program")
    net = WHOLE[0]
    x = _x(2, net.channels, 10, 33).to(device)
    weights = [w.to(device) for w in net.weights]
    index = torch.tensor([[0, 1, 5, 26], [8, 12, 13, 14]], dtype=torch.int32, device=device)
    want = run_program(x, weights, net.text)
    got = run_program(x, weights, net.text, index, 4)
    patches = torch.zeros(2, want.shape[1], 8, 8, device=device).repeat_interleave(4, 0)
    assert torch.equal(
        scatter_patches(got, patches, index, 8), scatter_patches(want, patches, index, 8)
    )


def test_covered_patches_lie_on_the_grid() -> None:
    net, x = WHOLE[0], _x(1, WHOLE[0].channels, 8, 8)
    for index, error, message in (
        (torch.tensor([[4]], dtype=torch.int32), ValueError, "4"),
        (torch.tensor([[-1]], dtype=torch.int32), ValueError, "-1"),
        (torch.tensor([[0]]), TypeError, "covered .*int32"),
        (torch.tensor([0], dtype=torch.int32), ValueError, "covered"),
        (torch.zeros(2, 1, dtype=torch.int32), ValueError, "covered"),
    ):
        with use_backend("cpu"), pytest.raises(error, match=message):
            run_program(x, net.weights, net.text, index, 4)
    with pytest.raises(ValueError, match="patch_size >= 1"):
        run_program(x, net.weights, net.text, torch.zeros(1, 1, dtype=torch.int32), 0)


def test_an_empty_batch(backend: str, device: torch.device) -> None:
    require(backend, "run_program")
    net = WHOLE[0]
    got = run_program(_x(0, 12, 4, 5).to(device), net.cast(device), net.text)
    assert got.shape == (0, 3, 8, 10)


def test_a_changed_weight_is_seen(backend: str, device: torch.device) -> None:
    """A backend may keep what it made of the weights; a write in place must reach it."""
    require(backend, "run_program")
    net, x = WHOLE[0], _x(1, 12, 6, 5)
    weights = net.cast(device)
    weights = [w.clone() for w in weights]
    run_program(x.to(device), weights, net.text)
    for weight in weights:
        weight.mul_(1.5)
    exact = reference.run_program(x.double(), [w.cpu().double() for w in weights], net.text)
    plain = reference.run_program(x, [w.cpu() for w in weights], net.text)
    assert_close(run_program(x.to(device), weights, net.text), exact, plain)


def test_two_runs_are_bit_equal(backend: str, device: torch.device) -> None:
    require(backend, "run_program")
    net, x = WHOLE[1], _x(2, 6, 17, 23).to(device)
    runs = [run_program(x, net.cast(device), net.text) for _ in range(2)]
    assert torch.equal(*runs)


@EVERY_SINGLE
def test_gradcheck(single: Single) -> None:
    x = _x(1, INPUTS, 3, 4, dtype=torch.float64).requires_grad_()
    weights = [w[:].requires_grad_() for w in single.weights(torch.float64)]
    with use_backend("reference"):
        # One random direction: the full Jacobian of every step would take minutes.
        assert torch.autograd.gradcheck(
            lambda x, *w: run_program(x, w, single.text), (x, *weights), fast_mode=True
        )


def test_gradient_of_a_network(backend: str, device: torch.device) -> None:
    require(backend, "run_program")
    net = program_cases.fsrcnn(4, 2, whole=True)
    leaves = [_x(2, 4, 5, 4), *(w.clone() for w in net.weights)]
    exact = [leaf.double().requires_grad_() for leaf in leaves]
    y = reference.run_program(exact[0], exact[1:], net.text)
    grad = _x(*y.shape)
    expected = torch.autograd.grad(y, exact, grad.double())
    there = [leaf.to(device).requires_grad_() for leaf in leaves]
    got = torch.autograd.grad(run_program(there[0], there[1:], net.text), there, grad.to(device))
    for a, b in zip(got, expected, strict=True):
        bound = 1e-4 * max(1.0, float(b.abs().max()))
        torch.testing.assert_close(a.cpu().double(), b, rtol=0, atol=bound)


def test_compiles_whole() -> None:
    net = program_cases.fsrcnn(4, 2)
    x = _x(2, 4, 6, 6).requires_grad_()
    weights = [w.clone().requires_grad_() for w in net.weights]

    def step(x: torch.Tensor) -> torch.Tensor:
        return run_program(x, weights, net.text).square().sum()

    with use_backend("reference"):
        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), step(x))
        torch.testing.assert_close(
            torch.autograd.grad(compiled(x), [x, *weights]),
            torch.autograd.grad(step(x), [x, *weights]),
        )


_KERNEL = torch.ones(3, 2, 3, 3)
_CONV = "v1 = conv v0 weight=0 pad=1\nreturn v1"


@pytest.mark.parametrize(
    ("x", "weights", "text", "error", "message"),
    [
        ([1.0], [_KERNEL], _CONV, TypeError, "expected x [N,C,H,W] as a tensor, got list"),
        (torch.ones(2, 4, 4), [_KERNEL], _CONV, ValueError, "expected x [N,C,H,W], got shape"),
        (
            torch.ones(1, 2, 4, 4).int(),
            [_KERNEL],
            _CONV,
            TypeError,
            "expected x in float32, bfloat16",
        ),
        (torch.ones(1, 2, 4, 4), [_KERNEL], 7, TypeError, "expected program as a str, got int"),
        (torch.ones(1, 2, 4, 4), [3], _CONV, TypeError, "expected weights[0] as a tensor, got int"),
        (
            torch.ones(1, 2, 4, 4),
            [_KERNEL.half()],
            _CONV,
            TypeError,
            "expected weights[0] in float32 on cpu as the map, got float16 on cpu",
        ),
        (torch.ones(1, 2, 4, 4), [], _CONV, ValueError, "expected 1 weights for this program"),
    ],
)
def test_bad_input(x: object, weights: list, text: object, error: type, message: str) -> None:
    with pytest.raises(error, match=f"^run_program: {re.escape(message)}"):
        run_program(x, weights, text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a last line 'return v<number>', got []"),
        ("v1 = mean v0", "expected a last line 'return v<number>', got ['v1 = mean v0']"),
        ("v1 = mean v0\nreturn v2", "expected a value v0 to v1, got 'v2' in 'return v2'"),
        ("v2 = mean v0\nreturn v0", "expected 'v1 = <kind> ...', got 'v2 = mean v0'"),
        ("v1 = pool v0\nreturn v1", "expected 'v1 = <kind> ...', got 'v1 = pool v0'"),
        ("v1 = mean v1\nreturn v1", "expected a value v0 to v0, got 'v1' in 'v1 = mean v1'"),
        ("v1 = mean x\nreturn v1", "expected a value v0 to v0, got 'x' in 'v1 = mean x'"),
        ("v1 = conv v0 pad=1\nreturn v1", "incomplete step 'v1 = conv v0 pad=1'; conv needs"),
        ("v1 = add v0\nreturn v1", "incomplete step 'v1 = add v0'; add needs []"),
        ("v1 = act v0\nreturn v1", "incomplete step 'v1 = act v0'"),
        ("v1 = mean v0 factor=2\nreturn v1", "mean takes no 'factor=2', in"),
        ("v1 = mean v0 act=relu\nreturn v1", "mean takes no 'act=relu', in"),
        ("v1 = shuffle v0 factor=2 order=c\nreturn v1", "shuffle takes no 'order=c', in"),
        ("v1 = nearest v0 factor=-2\nreturn v1", "expected a number >= 0, got '-2' in"),
        ("v1 = act v0 act=swish\nreturn v1", "no activation 'swish', in"),
        ("v1 = act v0 act=leaky\nreturn v1", "no activation 'leaky', in"),
        ("v1 = act v0 act=relu:1\nreturn v1", "no activation 'relu:1', in"),
        ("v1 = act v0 act=prelu:x\nreturn v1", "no activation 'prelu:x', in"),
    ],
)
def test_not_a_program(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^program: {re.escape(message)}"):
        parse_program(text)


@pytest.mark.parametrize(
    "step",
    [
        "conv v0 weight=0 groups=2",  # reads 4 channels
        "conv v1 weight=0",  # 3 px do not fit
        "conv v0 weight=0 add=v0",  # 3 channels and 2
        "conv v0 weight=0 mul=v0",
        "deconv v0 weight=0 stride=2 pad=1",
        "add v0 v1",
        "mul v1 v0",
        "concat v0 v1",
        "slice v0 first=1 count=2",
        "slice v0 first=0 count=0",
        "nearest v0 factor=0",
        "crop v0 height=5 width=1",
        "resize v0 height=0 width=1",
        "shuffle v0 factor=2",
        "shuffle v0 factor=0",
    ],
)
def test_a_step_that_does_not_fit(step: str) -> None:
    text = f"v1 = crop v0 height=2 width=2\nv2 = {step}\nreturn v2"
    with pytest.raises(ValueError, match=f"^program: 'v2 = {re.escape(step)}' does not fit v"):
        run_program(torch.ones(1, 2, 4, 4), [_KERNEL], text)


@pytest.mark.parametrize("net", [*NETS, *WHOLE], ids=str)
def test_texts_come_back(net: Net) -> None:
    parsed = parse_program(net.text)
    assert parse_program(parsed.text()) == parsed
    assert parsed.parameters() == len(net.weights)
    shapes = value_shapes(parsed, [tuple(w.shape) for w in net.weights], (net.channels, 6, 6))
    assert len(shapes) == len(net.lines) + 1


def test_what_streams_over_a_map() -> None:
    def obstacle(net: Net) -> str | None:
        return map_obstacle(parse_program(net.text), [tuple(w.shape) for w in net.weights])

    assert [obstacle(net) for net in WHOLE] == [None] * len(WHOLE)
    assert all(obstacle(net) is not None for net in NETS)
