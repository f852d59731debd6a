"""Whole Refine-Nets in one launch on a GPU: small maps for sanitizers, no wait, graphs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from sparsesr import ops, use_backend
from sparsesr.ops import _cuda
from tests.ops.masked_cases import assert_close

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


@dataclass
class Net:
    """A program by hand, the sizes of its parameters, and how many times it enlarges."""

    name: str
    channels: int
    scale: int
    lines: list[str]
    sizes: list[tuple[int, ...]]

    def __str__(self) -> str:
        return self.name

    @property
    def text(self) -> str:
        return "\n".join(
            [
                *(f"v{i} = {line}" for i, line in enumerate(self.lines, 1)),
                f"return v{len(self.lines)}",
            ]
        )

    def weights(self, dtype: torch.dtype) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        drawn = [torch.randn(size, generator=generator) for size in self.sizes]
        fan = [w[0].numel() if w.dim() > 1 else 16 for w in drawn]
        return [(w / n**0.5).to(dtype) for w, n in zip(drawn, fan, strict=True)]


FSRCNN = Net(
    "fsrcnn",
    12,
    4,
    [
        "conv v0 weight=0 bias=1 pad=1 act=prelu:1",
        "conv v1 weight=2 bias=1 pad=1 act=leaky:0.1",
        "conv v2 weight=0 bias=1",
        "conv v3 weight=3 bias=4 act=prelu:4",
        "deconv v4 weight=5 bias=6 stride=4 pad=4",
    ],
    [(12, 12, 3, 3), (12,), (12, 12, 3, 3), (56, 12, 1, 1), (56,), (56, 3, 9, 9), (3,)],
)
ATTENTION = Net(
    "attention",
    64,
    2,
    [
        "conv v0 weight=0 bias=1 pad=1 act=relu",
        "conv v1 weight=0 pad=1",
        "mean v2",
        "conv v3 weight=2 act=relu",
        "conv v4 weight=3 bias=1 act=sigmoid",
        "mul v2 v5",
        "add v6 v0",
        "conv v7 weight=0 bias=1",
        "conv v8 weight=4 pad=1",
        "shuffle v9 factor=2",
        "conv v10 weight=5 pad=1",
    ],
    [(64, 64, 3, 3), (64,), (4, 64, 1, 1), (64, 4, 1, 1), (256, 64, 3, 3), (3, 64, 3, 3)],
)
GATES = Net(
    "gates",
    10,
    2,
    [
        "slice v0 first=0 count=5",
        "conv v1 weight=0 pad=1 act=leaky:0.2",
        "concat v2 v0 v2",
        "conv v3 weight=1 stride=2 pad=1",
        "resize v4 height=6 width=6",
        "conv v3 weight=1 bias=2 add=v5 act=sigmoid mul=v0",
        "conv v6 weight=3",
        "shuffle v7 factor=2 order=tf",
    ],
    [(5, 5, 3, 3), (10, 20, 1, 1), (10,), (12, 10, 3, 3)],
)
NETS = pytest.mark.parametrize("net", [FSRCNN, ATTENTION, GATES], ids=str)
# Batch, height, width and patches of each image: cut at the border, alone, more than a round.
MAPS = [(2, 9, 14, 7), (1, 3, 2, 1), (2, 120, 170, 900)]


def _given(net: Net, size: tuple[int, int, int, int], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Canvas, feature and index, on the CPU."""
    batch, height, width, k = size
    generator = torch.Generator().manual_seed(1)
    feature = torch.randn(batch, net.channels, height, width, generator=generator).to(dtype)
    grid = ops.patch_grid(height, width, 4)
    scores = torch.rand(batch, *grid, generator=generator)
    image = (batch, 3, net.scale * height, net.scale * width)
    return torch.zeros(image, dtype=dtype), feature, ops.select_patches(scores, k)


@DTYPES
@NETS
@pytest.mark.parametrize("size", MAPS, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_refines_as_the_reference(
    net: Net,
    size: tuple[int, int, int, int],
    dtype: torch.dtype,
    layout: torch.memory_format,
    gpu_backend: str,
) -> None:
    canvas, feature, index = _given(net, size, dtype)
    weights = net.weights(dtype)
    got = ops.refine_patches_(
        canvas.cuda().contiguous(memory_format=layout),
        feature.cuda().contiguous(memory_format=layout),
        index.cuda(),
        [w.cuda() for w in weights],
        net.text,
        4,
    )
    with use_backend("reference"):
        plain = ops.refine_patches_(canvas.clone(), feature, index, weights, net.text, 4)
        wide = [t.double() for t in (canvas, feature)]
        exact = ops.refine_patches_(*wide, index, [w.double() for w in weights], net.text, 4)
    assert_close(got, exact, plain)


def _there(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    canvas, feature, index = (t.cuda() for t in _given(FSRCNN, MAPS[0], dtype))
    return canvas, feature, index, [w.cuda() for w in FSRCNN.weights(dtype)]


@DTYPES
def test_does_not_wait(dtype: torch.dtype, gpu_backend: str, request) -> None:
    canvas, feature, index, weights = _there(dtype)
    ops.refine_patches_(canvas, feature, index, weights, FSRCNN.text, 4)
    torch.cuda.synchronize()
    request.getfixturevalue("strict_sync")
    ops.refine_patches_(canvas, feature, index, weights, FSRCNN.text, 4)


@DTYPES
def test_a_replay_sees_changed_maps_and_weights(dtype: torch.dtype, gpu_backend: str) -> None:
    canvas, feature, index, weights = _there(dtype)
    ops.refine_patches_(canvas, feature, index, weights, FSRCNN.text, 4)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ops.refine_patches_(canvas, feature, index, weights, FSRCNN.text, 4)
    for seed in (2, 3):
        torch.manual_seed(seed)
        feature.copy_(torch.randn_like(feature))
        for weight in weights:
            weight.mul_(0.9)
        graph.replay()
        wanted = ops.refine_patches_(
            torch.zeros_like(canvas), feature, index, weights, FSRCNN.text, 4
        )
        assert torch.equal(canvas, wanted)


def test_a_program_that_does_not_fit() -> None:
    """Refused by name, run step by step under ``auto``."""
    if _cuda.load_error() is not None:
        pytest.skip(str(_cuda.load_error()))
    feature = torch.randn(1, 1024, 12, 12, device="cuda")
    weights = [torch.randn(1, 1024, 1, 1, device="cuda")]
    index = torch.zeros(1, 1, dtype=torch.int32, device="cuda")
    given = (feature, index, weights, "v1 = conv v0 weight=0\nreturn v1", 12, 0)
    with use_backend("cuda"), pytest.raises(NotImplementedError, match="of shared memory"):
        ops.refine_patches_(torch.zeros(1, 1, 12, 12, device="cuda"), *given)
    got = ops.refine_patches_(torch.zeros(1, 1, 12, 12, device="cuda"), *given)
    with use_backend("reference"):
        wanted = ops.refine_patches_(torch.zeros(1, 1, 12, 12, device="cuda"), *given)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-3)
