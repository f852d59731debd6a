"""Pixel routing on a GPU: small awkward sizes for sanitizers, no wait for the device, graphs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sparsesr import ops, use_backend
from tests.ops.masked_cases import assert_close
from tests.ops.routing_cases import CASES, Case, Inputs, class_maps, inputs

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
GPU = torch.device("cuda")
# Widths beyond those of the published networks, many tiles and chunks, eight classes.
LARGER = [
    Case(1, 58, (6, 5), (24, 20), 4, ((20, 20), (170, 170, 170, 170))),
    Case(2, 48, (30, 41), (60, 82), 2, ((10, 10, 10), (58, 58, 58, 58))),
    Case(1, 9, (12, 10), (32, 27), 0, tuple((3 + j,) for j in range(8))),
]


@DTYPES
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("case", [*CASES, *LARGER], ids=str)
def test_routes_as_the_reference(
    case: Case, layout: torch.memory_format, dtype: torch.dtype, gpu_backend: str
) -> None:
    for name in class_maps(case):
        given = inputs(case, dtype, name)
        there = given.to(GPU)
        there = replace(there, feature=there.feature.contiguous(memory_format=layout))
        got = ops.route_mlp(*there.arguments())
        with use_backend("reference"):
            exact = ops.route_mlp(*given.to(torch.float64).arguments())
            plain = ops.route_mlp(*given.arguments())
        assert_close(got, exact, plain, name)


@DTYPES
@pytest.mark.parametrize(
    "size", [(2, 3, 9, 6), (1, 3, 3, 3), (1, 4, 2, 8), (1, 3, 70, 90)], ids=str
)
def test_averages_as_the_reference(
    size: tuple[int, ...], dtype: torch.dtype, gpu_backend: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(size, generator=generator).to(dtype)
    classes = torch.randint(0, 3, (size[0], *size[2:]), generator=generator).to(torch.uint8)
    for rule in ((1, 1), (3, 2), (9, 1), (1, 0)):
        got = ops.average_neighbors(image.to(GPU), classes.to(GPU), *rule)
        with use_backend("reference"):
            exact = ops.average_neighbors(image.double(), classes, *rule)
            plain = ops.average_neighbors(image, classes, *rule)
        assert_close(got, exact, plain)


def _both(given: Inputs) -> Tensor:
    assert given.class_map is not None
    out = ops.route_mlp(*given.arguments())
    return ops.average_neighbors(out, given.class_map)


@DTYPES
def test_does_not_wait(dtype: torch.dtype, gpu_backend: str, request) -> None:
    given = inputs(LARGER[1], dtype).to(GPU)
    _both(given)  # kernels are compiled and weights packed
    request.getfixturevalue("strict_sync")
    _both(given)
    ops.route_mlp(*replace(given, class_map=None).arguments())


@DTYPES
def test_replay_follows_the_classes(dtype: torch.dtype, gpu_backend: str) -> None:
    """How many pixels a class has may change from replay to replay."""
    given = inputs(LARGER[1], dtype).to(GPU)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        _both(given)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = _both(given)
    for name in ("all light", "beyond", "all heavy"):
        classes = class_maps(LARGER[1])[name]
        assert classes is not None
        given.class_map.copy_(classes)
        graph.replay()
        assert torch.equal(out, _both(given)), name
