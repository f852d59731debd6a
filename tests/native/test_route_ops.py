"""Pixel routing of the native module: every instruction set, threads, layouts, bad arguments."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor

from sparsesr.ops import _native, reference
from sparsesr.ops._packing import PackingRule, pack_mlp

# feature channels, LR size, HR size, hidden widths of each class. Register blocks hold 6 outputs,
# vectors 4, 8 or 16 pixels, tiles up to 4 of them: a little less and a little more than each.
CASES = [
    (1, (1, 1), (1, 1), [[]]),
    (3, (2, 3), (4, 6), [[1], [7, 5]]),
    (5, (4, 5), (16, 20), [[10, 10], [13, 12, 11], [6]]),
    (16, (3, 17), (9, 51), [[20], [17, 18]]),
    (7, (5, 4), (13, 11), [[3, 2], [8]]),  # 2.7, another places table for every row
]
each_case = pytest.mark.parametrize("case", CASES, ids=str)
SHARES = (0.0, 0.1, 0.5, 1.0)  # of pixels of class 0

Case = tuple[int, tuple[int, int], tuple[int, int], list[list[int]]]


@pytest.fixture
def nan_memory() -> object:
    """Memory that torch hands out holds NaN: what nobody wrote must not be read."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def arguments(case: Case, share: float, batch: int = 2, outputs: int = 3) -> list:
    channels, (h, w), (height, width), hidden = case
    rng = torch.Generator().manual_seed(channels)
    weights, biases, row_bias, col_bias, layers = [], [], [], [], []
    whole = height % h == 0
    periods = (height // h, width // w) if whole else (height, width)
    for own in hidden:
        widths = [channels, *own, outputs]
        for i in range(len(widths) - 1):
            weight = torch.randn(widths[i + 1], widths[i], generator=rng)
            weights.append(weight / widths[i] ** 0.5)
            if i > 0:
                biases.append(torch.randn(widths[i + 1], generator=rng))
        row_bias.append(torch.randn(periods[0], widths[1], generator=rng))
        col_bias.append(torch.randn(periods[1], widths[1], generator=rng))
        layers.append(len(widths) - 1)
    feature = torch.randn(batch, channels, h, w, generator=rng)
    image = torch.randn(batch, outputs, h, w, generator=rng)
    chosen = torch.rand(batch, height, width, generator=rng) >= share
    # One class more than there are: such pixels get the image alone.
    others = torch.randint(1, len(hidden) + 1, chosen.shape, generator=rng)
    class_map = (chosen * others).to(torch.uint8)
    places = [(torch.arange(n) + 0.5) * m / n - 0.5 for n, m in ((height, h), (width, w))]
    return [feature, class_map, weights, row_bias, col_bias, biases, layers, *places, image]


def exact(given: list) -> Tensor:
    def wide(value: object) -> object:
        if isinstance(value, list) and value and isinstance(value[0], Tensor):
            return [v.double() for v in value]
        return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value

    doubled = [wide(value) for value in given]
    doubled[7:9] = given[7:9]  # places are float32 by definition
    return reference.route_mlp(*doubled)


def assert_near(got: Tensor, expected: Tensor) -> None:
    # Sums of up to three layers of 20 products of size one.
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=2e-5)


@each_case
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_routes(case: Case, layout: torch.memory_format, isa: str, nan_memory: None) -> None:
    for share in SHARES:
        given = arguments(case, share)
        given[0] = given[0].contiguous(memory_format=layout)
        assert_near(_native.route_mlp(*given), exact(given))
        given[-1] = None
        assert_near(_native.route_mlp(*given), exact(given))
        given[1] = None
        assert_near(_native.route_mlp(*given), exact(given))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit(dtype: torch.dtype, isa: str) -> None:
    given = arguments(CASES[2], 0.5)
    for i, value in enumerate(given):
        if isinstance(value, list) and isinstance(value[0], Tensor):
            given[i] = [v.to(dtype) for v in value]
    given[0], given[-1] = given[0].to(dtype), given[-1].to(dtype)
    got = _native.route_mlp(*given)
    assert got.dtype == dtype
    # Only the result is rounded, to 8 bits or more.
    torch.testing.assert_close(got.double(), exact(given), rtol=2**-8, atol=2e-5)


def test_rows_in_any_order(isa: str) -> None:
    """Places are not promised to rise, nor to lie inside."""
    given = arguments(CASES[2], 0.5)
    draw = torch.Generator().manual_seed(1)
    given[7] = given[7][torch.randperm(given[7].numel(), generator=draw)] * 2 - 1
    given[8] = given[8].flip(0) * 3 - 4
    assert_near(_native.route_mlp(*given), exact(given))


def test_ties_go_to_the_even_pixel(isa: str) -> None:
    given = arguments((2, (4, 4), (9, 9), [[]]), 0.0)
    given[7] = given[8] = torch.linspace(-0.5, 3.5, 9)
    assert_near(_native.route_mlp(*given), exact(given))


@pytest.mark.parametrize("share", SHARES)
def test_thread_count_changes_nothing(share: float, isa: str, threads: None) -> None:
    given = arguments((48, (19, 23), (76, 92), [[10, 10], [58, 58, 58]]), share)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(_native.route_mlp(*given))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_changed_weight_is_seen() -> None:
    given = arguments(CASES[2], 0.5)
    _native.route_mlp(*given)
    given[2][1].mul_(2)
    given[5][0].add_(1)
    assert_near(_native.route_mlp(*given), exact(given))


@pytest.mark.parametrize("size", [(1, 5), (2, 2), (3, 3), (9, 14), (4, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_average(size: tuple[int, int], dtype: torch.dtype, isa: str) -> None:
    draw = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, *size, generator=draw).to(dtype)
    class_map = torch.randint(0, 3, (2, *size), generator=draw).to(torch.uint8)
    for layout in (torch.contiguous_format, torch.channels_last):
        given = image.contiguous(memory_format=layout)
        for limits in ((1, 1), (4, 2), (9, 1), (1, 0), (1, 300)):
            got = _native.average_neighbors(given, class_map, *limits)
            expected = reference.average_neighbors(image.double(), class_map, *limits)
            # One rounding of a mean of nine.
            eps = torch.finfo(dtype).eps
            torch.testing.assert_close(got.double(), expected, rtol=eps, atol=eps)
            untouched = expected == image.double()
            assert torch.equal(got[untouched], image[untouched])


def _raw(**changes: object) -> None:
    module = importlib.import_module("sparsesr._native")
    rule = PackingRule(*module.cpu.packing_rule(False))
    packed = pack_mlp([torch.zeros(4, 2), torch.zeros(3, 4)], [torch.zeros(3)], rule)
    tables = torch.zeros(2, 4 + -4 % rule.lanes)
    given = {
        "feature": torch.zeros(1, 2, 3, 3).contiguous(memory_format=torch.channels_last),
        "class_map": torch.zeros(1, 6, 6, dtype=torch.uint8),
        "first": packed.first,
        "row_bias": tables,
        "col_bias": tables,
        "later": packed.later,
        "widths": packed.widths,
        "rows": torch.zeros(6),
        "cols": torch.zeros(6),
        "image": torch.zeros(1, 3, 3, 3),
        "out": torch.zeros(1, 3, 6, 6),
        **changes,
    }
    views = {
        n: _native._view("route_mlp", n, v) if isinstance(v, Tensor) else v
        for n, v in given.items()
    }
    own = tuple(views.pop(n) for n in ("first", "row_bias", "col_bias", "later", "widths"))
    module.cpu.route_mlp(
        views["feature"],
        views["class_map"],
        [own],
        *(views[n] for n in ("rows", "cols", "image", "out")),
        1,
    )


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"feature": torch.zeros(1, 2, 3, 3)}, ValueError, "feature with adjacent channels"),
        ({"feature": torch.zeros(1, 2, 3, 3).double()}, TypeError, "feature float32"),
        ({"class_map": torch.zeros(1, 6, 6)}, TypeError, "class_map uint8, got float32"),
        ({"class_map": torch.zeros(1, 6, 5, dtype=torch.uint8)}, ValueError, "class_map"),
        ({"first": torch.zeros(7)}, ValueError, "first"),
        ({"later": torch.zeros(7)}, ValueError, "later"),
        ({"row_bias": torch.zeros(2, 5)}, ValueError, "row_bias"),
        ({"widths": [4, 2]}, ValueError, "3 outputs"),
        ({"rows": torch.zeros(5)}, ValueError, "rows"),
        ({"cols": torch.full((6,), torch.nan)}, ValueError, "finite cols"),
        ({"image": torch.zeros(1, 3, 3, 4)}, ValueError, "image"),
        ({"out": torch.zeros(1, 3, 1, 6).expand(1, 3, 6, 6)}, ValueError, "out"),
    ],
)
def test_module_checks(change: dict, error: type, text: str) -> None:
    _raw()
    with pytest.raises(error, match=f"^route_mlp: .*{text}"):
        _raw(**change)
