"""masked_conv2d: a 3x3 convolution where a mask is, against the whole convolution, by its share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from _maps import LAYOUTS
from _protocol import Call, verify
from _session import Bench, smoke, under

from sparsesr.ops import masked_conv2d

TITLE = """masked_conv2d, 3x3, 64 to 64 channels: `op` in each layout against the whole convolution
in the faster one. vs dense: times faster, below 1 is a loss; pixels: what equally efficient kernels
would give."""


@dataclass(frozen=True)
class ConvCase:
    """A map and the share of its rows that are active; they lie together."""

    height: int
    width: int
    share: float

    def __str__(self) -> str:
        return f"{self.height}x{self.width}-{100 * self.share:.0f}%"


def cases(quick: bool, gpu: bool) -> list[ConvCase]:
    """Four shares of one map, and a larger one on a GPU."""
    if quick:
        return [ConvCase(12, 10, 0.25)]
    found = [ConvCase(160, 240, share) for share in (0.1, 0.3, 0.6, 1.0)]
    return [*found, ConvCase(540, 960, 0.3)] if gpu else found


def bench_masked_conv2d(bench: Bench, case: ConvCase, benchmark: Any) -> None:
    """One mask: the op in both layouts and on every backend, the whole convolution."""
    torch.manual_seed(0)
    mask = torch.zeros(1, 1, case.height, case.width, dtype=torch.bool)
    mask[:, :, : round(case.share * case.height)] = True
    weight, bias = torch.randn(64, 64, 3, 3) / 24, torch.randn(64)
    x = torch.randn(1, 64, case.height, case.width)
    contenders: dict[str, Call] = {}
    for layout, memory_format in LAYOUTS.items():
        given = tuple(t.contiguous(memory_format=memory_format) for t in (x, weight))
        contenders[f"op {layout}"] = lambda g=given: masked_conv2d(*g, bias, mask)
        contenders[f"dense {layout}"] = lambda g=given: F.conv2d(*g, bias, padding=1)
    contenders |= {n: under(n, contenders["op NHWC"]) for n in bench.backends()}
    want = contenders["reference"]()
    # Sums of 576 products in another order; float32 on a GPU may be TensorFloat-32.
    exact = bench.dtype == torch.float32 and not bench.gpu
    for name, call in contenders.items():
        if not name.startswith("dense"):
            verify(name, call(), want, 1e-4 if exact else 0.1)
    timings = bench.time(contenders, rounds=7)
    smoke(benchmark, contenders["op NHWC"], timings["op NHWC"])

    bench.report.record("masked_conv2d", {**vars(case), "channels": 64}, timings)
    seconds = {name: timing.median for name, timing in timings.items()}
    rival = min(seconds["dense NHWC"], seconds["dense NCHW"])
    row = {"mask": str(case)} | {f"{n} ms": f"{1e3 * s:.3f}" for n, s in seconds.items()}
    row |= {f"{n} vs dense": f"{rival / seconds[f'op {n}']:.2f}x" for n in LAYOUTS}
    row["pixels"] = f"{mask.numel() / int(mask.sum()):.2f}x"
    bench.report.table("masked_conv2d", TITLE).rows.append(row)
