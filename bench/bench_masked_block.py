"""masked_block: one sparse mask module's convolutions against the dense ones, by active share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paper_style_smsr
import torch
import torch.nn.functional as F
from _maps import LAYOUTS
from _masked import blobs, block_macs, scattered
from _protocol import Call, verify
from _session import Bench, smoke, under
from torch import Tensor

from sparsesr.ops import masked_block

TITLE = """masked_block, 4 layers of 64 channels and the 1x1: `op` in each layout against the dense
convolutions (no masks) in the faster one. vs dense: times faster, below 1 is a loss; MACs: what
equally efficient kernels would give. paper: the released code's way in plain PyTorch."""
DENSE_CHANNELS = {"some": (24, 9, 3, 0), "few": (3, 0, 0, 0)}  # most and fewest published


@dataclass(frozen=True)
class BlockCase:
    """A map, the share of active pixels, how they lie, and how many channels are dense."""

    height: int
    width: int
    share: float
    pattern: str
    dense: str

    def __str__(self) -> str:
        size = f"{self.height}x{self.width}"
        return f"{size}-{100 * self.share:.0f}%-{self.pattern}-{self.dense}"


def cases(quick: bool, gpu: bool) -> list[BlockCase]:
    """All shares in areas, one scattered; few dense channels at one share."""
    if quick:
        return [BlockCase(12, 10, 0.4, "areas", "some")]
    shares = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    found = [BlockCase(160, 240, share, "areas", "some") for share in shares]
    found.append(BlockCase(160, 240, 0.3, "scattered", "some"))
    found.append(BlockCase(160, 240, 0.3, "areas", "few"))
    return [*found, BlockCase(540, 960, 0.3, "areas", "some")] if gpu else found


def bench_masked_block(bench: Bench, case: BlockCase, benchmark: Any) -> None:
    """One mask: our op, the dense convolutions, the reference, the paper's way."""
    torch.manual_seed(0)
    channels, counts = 64, DENSE_CHANNELS[case.dense]
    dense = torch.zeros(len(counts), channels, dtype=torch.bool)
    for row, count in zip(dense, counts, strict=True):
        row[:count] = True
    make = blobs if case.pattern == "areas" else scattered
    mask = make(case.height, case.width, case.share).to(bench.device)
    weights = [torch.randn(channels, channels, 3, 3) * (2 / 576) ** 0.5 for _ in counts]
    collect, bias = torch.randn(channels, 4 * channels, 1, 1) / 16, torch.zeros(channels)
    x = torch.randn(1, channels, case.height, case.width)

    contenders: dict[str, Call] = {}
    for layout, memory_format in LAYOUTS.items():
        given = x.contiguous(memory_format=memory_format)
        kernels = [w.contiguous(memory_format=memory_format) for w in weights]
        arguments = (given, kernels, collect.contiguous(memory_format=memory_format), bias)
        contenders[f"dense {layout}"] = _dense(*arguments)
        contenders[f"op {layout}"] = _op(*arguments, dense, mask)
    contenders["reference"] = under("reference", contenders["op NHWC"])
    contenders["paper"] = lambda: paper_style_smsr.block(x, weights, collect, bias, dense, mask)
    want = contenders["reference"]()
    for name in ("op NHWC", "op NCHW", "paper"):
        # Sums of 576 products in another order; float32 on a GPU may be TensorFloat-32.
        exact = bench.dtype == torch.float32 and not bench.gpu
        verify(name, contenders[name](), want, 1e-3 if exact else 0.1)
    timings = bench.time(contenders, rounds=7)
    smoke(benchmark, contenders["op NHWC"], timings["op NHWC"])

    facts = {**vars(case), "channels": channels}
    bench.report.record("masked_block", facts, timings)
    seconds = {name: timing.median for name, timing in timings.items()}
    rival = min(seconds["dense NHWC"], seconds["dense NCHW"])
    pixels = case.height * case.width
    macs = block_macs(dense.cpu(), mask, channels)
    everything = pixels * len(counts) * channels * (9 * channels + channels)
    row = {"mask": str(case)}
    row |= {f"{name} ms": f"{1e3 * s:.2f}" for name, s in seconds.items()}
    for layout in LAYOUTS:
        row[f"{layout} vs dense"] = f"{rival / seconds[f'op {layout}']:.2f}x"
    row["MACs"] = f"{everything / macs:.2f}x" if macs else "-"
    row["paper/op"] = f"{seconds['paper'] / seconds['op NHWC']:.1f}x"
    row["GFLOP/s"] = f"{2 * macs / seconds['op NHWC'] / 1e9:.0f}"
    row["of dense's"] = f"{100 * macs / everything * rival / seconds['op NHWC']:.0f}%"
    bench.report.table("masked_block", TITLE).rows.append(row)


def _op(
    x: Tensor, weights: list[Tensor], collect: Tensor, bias: Tensor, dense: Tensor, mask: Tensor
) -> Callable[[], Tensor]:
    return lambda: masked_block(x, weights, collect, bias, dense, mask)


def _dense(x: Tensor, weights: list[Tensor], collect: Tensor, bias: Tensor) -> Call:
    def run() -> Tensor:
        y, features = x, []
        for weight in weights:
            y = F.conv2d(y, weight, padding=1).relu_()
            features.append(y)
        return F.conv2d(torch.cat(features, dim=1), collect, bias)

    return run
