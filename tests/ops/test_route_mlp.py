"""``route_mlp`` on every backend against the formula told one pixel at a time."""

from __future__ import annotations

from dataclasses import replace

import oracle
import pytest
import routing_cases
import torch
from masked_cases import assert_close, require
from routing_cases import CASES, Case, Inputs, inputs

from sparsesr import use_backend
from sparsesr.ops import PixelMLP, reference, route_mlp
from sparsesr.ops.reference.route_mlp import route_mlp_everywhere

EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=str)
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)


@EVERY_CASE
@DTYPES
def test_equals_the_formula(
    backend: str, device: torch.device, case: Case, dtype: torch.dtype
) -> None:
    require(backend, "route_mlp", dtype)
    for name in routing_cases.class_maps(case):
        given = inputs(case, dtype, name)
        got = route_mlp(*given.to(device).arguments())
        exact = routing_cases.route(given.to(torch.float64))
        assert_close(got, exact, reference.route_mlp(*given.flat()), name)


@EVERY_CASE
def test_every_layout(backend: str, device: torch.device, case: Case) -> None:
    require(backend, "route_mlp")
    given = inputs(case)
    exact, plain = routing_cases.route(given.to(torch.float64)), reference.route_mlp(*given.flat())
    there = given.to(device)
    for name, view in oracle.layouts(there.feature).items():
        image = None if there.image is None else oracle.layouts(there.image)[name]
        got = route_mlp(*replace(there, feature=view, image=image).arguments())
        assert_close(got, exact, plain, name)
        last = name.startswith("channels_last") and not view.is_contiguous()
        layout = torch.channels_last if last and case.channels > 1 else torch.contiguous_format
        assert got.is_contiguous(memory_format=layout), name
    assert there.class_map is not None
    spread = there.class_map.transpose(1, 2).contiguous().transpose(1, 2)
    mlps = [PixelMLP([w.t().contiguous().t() for w in m.weights], *m[1:]) for m in there.mlps]
    got = route_mlp(*replace(there, class_map=spread, mlps=mlps).arguments())
    assert_close(got, exact, plain, "strided weights and classes")


def test_a_changed_weight_is_seen(backend: str, device: torch.device) -> None:
    """A backend may keep what it made of the weights; a write in place must reach it."""
    require(backend, "route_mlp")
    given = inputs(CASES[0]).to(device)
    route_mlp(*given.arguments())
    given.mlps[1].weights[2].mul_(2)
    given.mlps[0].row_bias.add_(1)
    exact = routing_cases.route(given.to(torch.device("cpu")).to(torch.float64))
    plain = reference.route_mlp(*given.to(torch.device("cpu")).flat())
    assert_close(route_mlp(*given.arguments()), exact, plain)


def test_a_step_of_a_fused_optimizer_is_seen(backend: str, device: torch.device) -> None:
    """Torch counts no change in place for it."""
    require(backend, "route_mlp")
    given = inputs(CASES[0]).to(device).tracked()
    optimizer = torch.optim.Adam(given.leaves(), lr=0.1, fused=True)
    route_mlp(*given.arguments()).sum().backward()
    optimizer.step()
    with torch.no_grad():
        got = route_mlp(*given.arguments())
        here = given.to(torch.device("cpu"))
        exact = routing_cases.route(here.to(torch.float64))
        assert_close(got, exact, reference.route_mlp(*here.flat()))


def test_two_runs_are_bit_equal(backend: str, device: torch.device) -> None:
    require(backend, "route_mlp")
    given = inputs(CASES[1]).to(device)
    assert torch.equal(route_mlp(*given.arguments()), route_mlp(*given.arguments()))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference works on a few pixels at a time; here on at most three."""
    import sys

    given = inputs(CASES[2])
    whole = reference.route_mlp(*given.flat())
    monkeypatch.setattr(sys.modules["sparsesr.ops.reference.route_mlp"], "_CHUNK", 27)
    # Matrix products of other sizes may sum in another order.
    torch.testing.assert_close(reference.route_mlp(*given.flat()), whole, rtol=1e-5, atol=1e-5)


@EVERY_CASE
def test_the_traceable_form_is_the_same(case: Case) -> None:
    for name in routing_cases.class_maps(case):
        given = inputs(case, torch.float64, name)
        torch.testing.assert_close(
            route_mlp_everywhere(*given.flat()), reference.route_mlp(*given.flat())
        )


@EVERY_CASE
def test_backward_equals_autograd_of_the_formula(
    backend: str, device: torch.device, case: Case
) -> None:
    require(backend, "route_mlp")
    for name in ("random", "all light", "none"):
        exact = inputs(case, torch.float64, name).tracked()
        y = reference.route_mlp(*exact.flat())
        grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).double()
        expected = torch.autograd.grad(y, exact.leaves(), grad, materialize_grads=True)
        given = inputs(case, classes=name).to(device).tracked()
        out = route_mlp(*given.arguments())
        got = torch.autograd.grad(out, given.leaves(), grad.float().to(device))
        for a, b in zip(got, expected, strict=True):
            # A ReLU whose input rounds across zero moves a sum by about its own rounding.
            bound = 1e-4 * max(1.0, float(b.abs().max()))
            torch.testing.assert_close(a.cpu().double(), b, rtol=0, atol=bound)


def test_gradcheck() -> None:
    case = Case(1, 2, (2, 3), (4, 6), 2, ((3,), (2, 2)), outputs=2)
    given = inputs(case, torch.float64).tracked()
    leaves = given.leaves()
    with use_backend("reference"):
        assert torch.autograd.gradcheck(lambda *_: route_mlp(*given.arguments()), leaves)
        assert torch.autograd.gradgradcheck(lambda *_: route_mlp(*given.arguments()), leaves)


def test_compiles_whole() -> None:
    given = inputs(CASES[2]).tracked()

    def step(feature: torch.Tensor) -> torch.Tensor:
        return route_mlp(feature, *given.arguments()[1:]).square().sum()

    with use_backend("reference"):
        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(given.feature), step(given.feature))
        torch.testing.assert_close(
            torch.autograd.grad(compiled(given.feature), given.leaves()),
            torch.autograd.grad(step(given.feature), given.leaves()),
        )


GOOD = inputs(Case(2, 4, (3, 5), (6, 10), 2, ((3,), (6, 2))))
LIGHT, HEAVY = GOOD.mlps


def _bad(**change: object) -> Inputs:
    return replace(GOOD, **change)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (_bad(feature=GOOD.feature[0]), ValueError, r"feature \[B,C,H,W\], got shape \(4, 3, 5\)"),
        (_bad(mlps=[]), ValueError, "at least one MLP"),
        (
            _bad(mlps=[LIGHT._replace(biases=[])]),
            ValueError,
            r"mlps\[0\] with L >= 1 weights and L - 1 biases, got 2 and 0",
        ),
        (
            _bad(mlps=[LIGHT, HEAVY._replace(weights=HEAVY.weights[::-1])]),
            ValueError,
            r"mlps\[1\].weights\[0\] \[N,4\], got \[3, 2\]",
        ),
        (
            _bad(mlps=[LIGHT._replace(weights=[w.half() for w in LIGHT.weights])]),
            TypeError,
            r"mlps\[0\].weights\[0\] in float32 on cpu as feature, got float16",
        ),
        (
            _bad(mlps=[LIGHT, HEAVY._replace(col_bias=HEAVY.col_bias[:1])]),
            ValueError,
            r"mlps\[1\].col_bias \[2,6\] .*got \[1, 6\]",
        ),
        (_bad(rows=GOOD.rows.double()), TypeError, r"rows \[n\] float32 on cpu, got float64"),
        (_bad(cols=GOOD.cols[:0]), ValueError, r"cols \[n\] float32 on cpu with n >= 1"),
        (_bad(class_map=GOOD.rows), TypeError, r"class_map \[B,H,W\] uint8 on cpu, got float32"),
        (
            _bad(class_map=GOOD.class_map[:, 1:]),
            ValueError,
            r"class_map \[2, 6, 10\] \(one class for every HR pixel\), got \[2, 5, 10\]",
        ),
        (_bad(image=GOOD.image[:, :2]), ValueError, r"image \[2, 3, 3, 5\].*got \[2, 2, 3, 5\]"),
    ],
)
def test_bad_input(given: Inputs, error: type, text: str) -> None:
    with pytest.raises(error, match=f"^route_mlp: .*{text}"):
        route_mlp(*given.arguments())


def test_the_outputs_of_all_classes_agree() -> None:
    wide = inputs(Case(2, 4, (3, 5), (6, 10), 2, ((3,),), outputs=4)).mlps
    with pytest.raises(ValueError, match=r"as many outputs of mlps\[1\] as of mlps\[0\], got 4"):
        route_mlp(*replace(GOOD, mlps=[LIGHT, *wide]).arguments())
