"""``route_mlp`` in Triton: what the tests of the ops do not reach."""

from __future__ import annotations

import importlib
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sparsesr.ops import _triton, reference


def _arguments(hidden: list[list[int]], hr: tuple[int, int], outputs: int = 3) -> list:
    """Small whole numbers, of which float32 sums are exact; x2, 70 channels."""
    rng = torch.Generator().manual_seed(0)

    def whole(*shape: int) -> Tensor:
        return torch.randint(-2, 3, shape, generator=rng).float()

    lr, channels = (hr[0] // 2, hr[1] // 2), 70
    weights, biases, tables = [], [], []
    for own in hidden:
        widths = [channels, *own, outputs]
        weights += [whole(n, m) for m, n in pairwise(widths)]
        biases += [whole(n) for n in widths[2:]]
        tables.append([whole(2, widths[1]) for _ in range(2)])
    classes = torch.randint(0, len(hidden) + 1, (2, *hr), generator=rng).to(torch.uint8)
    places = [torch.arange(n) / 2 - 0.25 for n in hr]
    row_bias, col_bias = ([table[i] for table in tables] for i in range(2))
    layers = [len(own) + 1 for own in hidden]
    feature, image = whole(2, channels, *lr), whole(2, outputs, *lr)
    return [feature, classes, weights, row_bias, col_bias, biases, layers, *places, image]


def _moved(value: object, device: torch.device) -> object:
    if isinstance(value, list) and value and isinstance(value[0], Tensor):
        return [v.to(device) for v in value]
    return value.to(device) if isinstance(value, Tensor) else value


@pytest.mark.parametrize("hidden", [[[5], [40, 33]], [[], [20, 20, 20]], [[3], [4], [5]]], ids=str)
def test_several_programs(
    device: torch.device, hidden: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = importlib.import_module("sparsesr.kernels.route_mlp")
    monkeypatch.setattr(kernel, "INTERPRETED_ROWS", 64)
    given = _arguments(hidden, (10, 14))
    got = _triton.route_mlp(*(_moved(value, device) for value in given))
    assert torch.equal(got.cpu(), reference.route_mlp(*given))


def test_more_outputs_than_a_block(device: torch.device) -> None:
    given = _arguments([[6], [2]], (4, 6), outputs=19)
    got = _triton.route_mlp(*(_moved(value, device) for value in given))
    assert torch.equal(got.cpu(), reference.route_mlp(*given))


def test_no_number_as_a_place(device: torch.device) -> None:
    """The GPU cannot look at coordinates without waiting; it stays inside the map."""
    given = _arguments([[5], [7]], (4, 6))
    given[7] = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30])
    got = _triton.route_mlp(*(_moved(value, device) for value in given))
    given[7] = torch.tensor([0.0, 1.0, 0.0, 1.0])
    assert torch.equal(got.cpu(), reference.route_mlp(*given))


@pytest.mark.parametrize("buckets", [1, 3])
def test_lists_keep_the_order_of_the_pixels(device: torch.device, buckets: int) -> None:
    lists = importlib.import_module("sparsesr.kernels._pixel_lists")
    rng = torch.Generator().manual_seed(1)
    classes = torch.randint(0, 5, (3, 30, 37), generator=rng).to(torch.uint8)
    made = lists.pixel_lists(classes.to(device), buckets)
    bucket = classes.flatten().clamp(max=buckets - 1)
    assert made.chunks == 4
    assert torch.equal(made.listed.cpu().long(), bucket.sort(stable=True).indices)
    ends = made.ends.cpu()[made.chunks - 1 :: made.chunks].long()
    assert torch.equal(ends, torch.bincount(bucket.int(), minlength=buckets).cumsum(0))
