"""refine_patches_: a Refine-Net on chosen patches of a map, against plain PyTorch and layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gather_once
import torch
from _executor import run_by
from _maps import HALO, LAYOUTS, PATCH_SIZE, Case
from _networks import with_upsampler
from _programs import NetProgram, conv_chain, fsrcnn_refine, residual_chain
from _protocol import Call, Timing, verify
from _session import Bench, smoke
from torch import Tensor

from sparsesr import ops

TITLE = """refine_patches_ x4, p=4, halo 1: K patches of a map through a Refine-Net, into the image.
torch: windows by index, plain module (sub-pixel), written by index; chunked: the same, as many at a
time as suit the cache best; layered: our gather_patches and scatter_patches_ around the module. All
in the faster of NCHW and NHWC; x: times faster than these, below 1 is slower. GFLOP/s and floor:
useful multiply-adds, taps on padding and zeros of the deconvolution do not count; peak: the loop of
FMAs in registers of the same run."""
SCALE = 4
CHUNKS = (100, 200, 400)
NETS: dict[str, tuple[int, Callable[[], NetProgram]]] = {
    "fsrcnn": (12, fsrcnn_refine),
    "conv64": (64, conv_chain),
    "resblocks64": (64, residual_chain),
}


@dataclass(frozen=True)
class RefineCase:
    """A Refine-Net and how many patches go through it."""

    net: str
    height: int
    width: int
    k: int

    def __str__(self) -> str:
        return f"{self.net}-{self.width}x{self.height}-K{self.k}"


def cases(quick: bool, gpu: bool) -> list[RefineCase]:
    """LR 480x270: 5, 10, 25 and 50 % of 8160 patches, and the paper's 1000."""
    if quick:
        return [RefineCase(net, 22, 32, 20) for net in NETS]
    return [RefineCase(net, 270, 480, k) for net in NETS for k in (408, 816, 1000, 2040, 4080)]


def bench_refine_patches(bench: Bench, case: RefineCase, benchmark: Any) -> None:
    """One net and one K, all contenders in one interleaved run."""
    torch.manual_seed(0)
    channels, build = NETS[case.net]
    program = build()
    patches = Case(channels, case.height, case.width, "NHWC", case.k)
    index = ops.select_patches(patches.mask(), case.k)
    contenders: dict[str, Call] = {}
    want: Tensor | None = None
    for layout in LAYOUTS:
        for name, contender in _contenders(program, patches, layout, index).items():
            got = contender()
            want = got.clone() if want is None else want
            exact = bench.dtype == torch.float32 and not bench.gpu
            verify(f"{name} {layout}", got, want, atol=1e-4 if exact else 0.1)
            contenders[f"{name} {layout}"] = contender
    timings, peak = bench.time_beside_peak(contenders, rounds=5)
    fastest = _fastest(timings, "op")
    smoke(benchmark, contenders[fastest], timings[fastest])
    side = PATCH_SIZE + 2 * HALO
    _report(bench, case, timings, case.k * program.macs((channels, side, side)), peak)


def _contenders(
    program: NetProgram, patches: Case, layout: str, index: Tensor
) -> dict[str, Callable[[], Tensor]]:
    """Calls that fill an image of their own and return it; the same map for all."""
    memory_format = LAYOUTS[layout]
    torch.manual_seed(1)
    feature = patches.map().contiguous(memory_format=memory_format)
    size = (SCALE * patches.height, SCALE * patches.width)
    side = SCALE * PATCH_SIZE
    canvas, room = gather_once.roomy_canvas(3, *size, side, memory_format)
    own = torch.zeros(1, 3, *size).contiguous(memory_format=memory_format)
    net = with_upsampler(program.module, "sub-pixel").to(memory_format=memory_format)
    where = index.flatten().long()

    def plain(chunk: int | None) -> Callable[[], Tensor]:
        def run() -> Tensor:
            gather_once.refine(room, feature, where, net, PATCH_SIZE, HALO, chunk)
            return canvas

        return run

    def layered() -> Tensor:
        refined = net(ops.gather_patches(feature, index, PATCH_SIZE, HALO))
        return ops.scatter_patches_(own, refined, index, side)

    def op() -> Tensor:
        return ops.refine_patches_(
            own, feature, index, program.weights, program.text, PATCH_SIZE, HALO
        )

    chunks = {f"chunk {n}": plain(n) for n in CHUNKS if n < patches.k}
    found = {"torch": plain(None), **chunks, "layered": layered}
    return {"op": op} | {name: run_by("off", call) for name, call in found.items()}


def _fastest(timings: dict[str, Timing], *kinds: str) -> str:
    """The fastest contender of some kinds; "torch NHWC" is of kind "torch"."""
    names = [n for n in timings if n.startswith(kinds)]
    return min(names, key=lambda name: timings[name].median)


def _report(
    bench: Bench, case: RefineCase, timings: dict[str, Timing], macs: int, peak: float
) -> None:
    rows, cols = ops.patch_grid(case.height, case.width, PATCH_SIZE)
    facts = {"net": case.net, "height": case.height, "width": case.width, "k": case.k}
    facts |= {"useful_macs": macs, "peak_gflops": peak}
    bench.report.record("refine_patches", facts, timings)
    best = _fastest(timings, "op")
    own = timings[best]
    row = {
        "net": case.net,
        "map": f"{case.width}x{case.height}",
        "K": str(case.k),
        "cover": f"{100 * case.k / (rows * cols):.0f}%",
        "op ms": f"{1e3 * own.median:.2f}",
        "layout": best.split()[-1],
        "spread": f"{100 * own.spread:.0f}%",
    }
    for column, kinds in (("torch", ("torch",)), ("chunked", ("chunk", "torch")), ("layered",) * 2):
        rival = _fastest(timings, *(kinds if isinstance(kinds, tuple) else (kinds,)))
        row[f"{column} ms"] = f"{1e3 * timings[rival].median:.2f}"
        row[f"x {column}"] = f"{timings[rival].median / own.median:.2f}x"
        if column == "chunked":
            row["chunk"] = rival.split()[1] if rival.startswith("chunk") else "all"
    rate = 2 * macs / own.median / 1e9
    row["GFLOP/s"] = f"{rate:.0f}"
    row["% peak"] = f"{100 * rate / peak:.0f}%"
    row["floor ms"] = f"{2e3 * macs / peak / 1e9:.2f}"
    row["peak"] = f"{peak:.0f}"
    bench.report.table("refine_patches", TITLE).rows.append(row)
