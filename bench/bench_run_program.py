"""run_program: whole maps, and single steps over maps and patches, against plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from _maps import LAYOUTS, PATCH_SIZE, Case
from _networks import with_upsampler
from _programs import (
    NetProgram,
    carn_encoder,
    fsrcnn_base,
    fsrcnn_dnet,
    fsrcnn_features,
    in_a_row,
    mask_convs,
)
from _protocol import Call, Timing, verify
from _session import Bench, smoke
from torch import nn

from sparsesr import ops
from sparsesr.nn import SubPixelConvTranspose2d

TITLE = """run_program on whole maps: networks, and steps alone. torch: the plain module
(sub-pixel), each in the faster of NCHW and NHWC; x: times faster, below 1 is slower. GFLOP/s and
floor: useful multiply-adds, taps on padding and zeros of the deconvolution do not count; peak: the
loop of FMAs in registers of the same run."""
PATCH_TITLE = """The same steps by refine_patches_, p=4: read from a map, written to one, NHWC.
torch: the plain module on patches that lie there already, its result left as it is."""


@dataclass(frozen=True)
class Work:
    """A network or a single step.

    Attributes:
        channels: of its input.
        build: halo -> program; a convolution drops the halo where there is one.
        halo: of patches; None for what is run on maps only.
        scale: of its result.
    """

    channels: int
    build: Callable[[int], NetProgram]
    halo: int | None = None
    scale: int = 1


def _conv3(channels: int) -> Work:
    return Work(
        channels, lambda h: in_a_row(nn.Conv2d(channels, channels, 3, padding=1 - h)), halo=1
    )


def _deconv() -> nn.Module:
    return SubPixelConvTranspose2d(56, 3, 9, stride=4, padding=4, output_padding=3)


NETS = {
    "fsrcnn features": Work(3, lambda _: fsrcnn_features()),
    "fsrcnn base": Work(3, lambda _: fsrcnn_base(), scale=4),
    "fsrcnn dnet": Work(3, lambda _: fsrcnn_dnet(), scale=4),
    "mask convs 12": Work(12, lambda _: mask_convs(12)),
    "mask convs 64": Work(64, lambda _: mask_convs(64)),
    "carn-pcsr encoder": Work(3, lambda _: carn_encoder()),
}
STEPS = {
    "conv3x3 64->64": _conv3(64),
    "conv3x3 48->48": _conv3(48),
    "conv3x3 12->12": _conv3(12),
    "conv1x1 12->56": Work(12, lambda _: in_a_row(nn.Conv2d(12, 56, 1)), halo=0),
    "deconv9x9 s4 56->3": Work(56, lambda _: in_a_row(_deconv()), halo=0, scale=4),
}


@dataclass(frozen=True)
class MapCase:
    """What runs, and the size of the map."""

    name: str
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.name.replace(' ', '_')}-{self.width}x{self.height}"


def cases(quick: bool, gpu: bool) -> list[MapCase]:
    """LR 480x270, and 256x172, the size of the PCSR bench; steps at the first alone."""
    if quick:
        return [MapCase(name, 10, 12) for name in NETS | STEPS]
    sizes = ((270, 480), (172, 256))
    return [MapCase(n, *size) for size in sizes for n in NETS] + [
        MapCase(name, 270, 480) for name in STEPS
    ]


def bench_run_program(bench: Bench, case: MapCase, benchmark: Any) -> None:
    """One network or step on one map."""
    torch.manual_seed(0)
    work = (NETS | STEPS)[case.name]
    program = work.build(0)
    x = torch.randn(1, work.channels, case.height, case.width)
    contenders = _map_contenders(program, x)
    _verify(bench, contenders)
    timings, peak = bench.time_beside_peak(contenders, rounds=7)
    own, rival = _fastest(timings, "op"), _fastest(timings, "torch")
    smoke(benchmark, contenders[own], timings[own])
    macs = program.macs((work.channels, case.height, case.width))
    facts = {"name": case.name, "height": case.height, "width": case.width}
    bench.report.record("run_program", facts | {"useful_macs": macs, "peak_gflops": peak}, timings)
    row = {"what": case.name, "map": f"{case.width}x{case.height}"}
    row |= _cells(timings, own, rival, macs, peak)
    bench.report.table("run_program", TITLE).rows.append(row)


def _map_contenders(program: NetProgram, x: torch.Tensor) -> dict[str, Call]:
    found: dict[str, Call] = {}
    for layout, memory_format in LAYOUTS.items():
        own = x.contiguous(memory_format=memory_format)
        net: Any = program.module
        if isinstance(net, nn.Module):
            net = with_upsampler(net, "sub-pixel").to(memory_format=memory_format)
        found[f"op {layout}"] = lambda own=own: ops.run_program(own, program.weights, program.text)
        found[f"torch {layout}"] = lambda own=own, net=net: net(own)
    return found


def bench_steps_on_patches(bench: Bench) -> None:
    """Single steps on chosen patches of a map."""
    k, height, width = (20, 22, 32) if bench.quick else (1000, 270, 480)
    for name, work in STEPS.items():
        _time_on_patches(bench, name, work, Case(work.channels, height, width, "NHWC", k))


def _time_on_patches(bench: Bench, name: str, work: Work, case: Case) -> None:
    assert work.halo is not None
    program = work.build(work.halo)
    feature, index = case.map(), ops.select_patches(case.mask(), case.k)
    patches = ops.gather_patches(feature, index, PATCH_SIZE, work.halo)
    assert isinstance(program.module, nn.Module)
    net = with_upsampler(program.module, "sub-pixel").to(memory_format=torch.channels_last)
    made = net(patches)
    size = (work.scale * case.height, work.scale * case.width)
    canvas = torch.zeros(1, made.shape[1], *size).to(memory_format=torch.channels_last)
    want = ops.scatter_patches(canvas, made, index, made.shape[-1])

    def op() -> torch.Tensor:
        return ops.refine_patches_(
            canvas, feature, index, program.weights, program.text, PATCH_SIZE, work.halo
        )

    verify(name, op(), want, atol=_tolerance(bench))
    timings, peak = bench.time_beside_peak({"op": op, "torch": lambda: net(patches)}, rounds=7)
    macs = case.k * program.macs((work.channels, *patches.shape[2:]))
    facts = {**case.as_dict(), "name": name, "useful_macs": macs, "peak_gflops": peak}
    bench.report.record("program_steps", facts, timings)
    row = {"what": name, "map": f"{case.width}x{case.height}", "K": str(case.k)}
    row |= _cells(timings, "op", "torch", macs, peak)
    bench.report.table("program_steps", PATCH_TITLE).rows.append(row)


def _verify(bench: Bench, contenders: dict[str, Call]) -> None:
    want: Any = contenders["torch NCHW"]()
    for name, call in contenders.items():
        got: Any = call()
        verify(name, got, want, atol=_tolerance(bench))


def _tolerance(bench: Bench) -> float:
    return 1e-4 if bench.dtype == torch.float32 and not bench.gpu else 0.1


def _fastest(timings: dict[str, Timing], kind: str) -> str:
    return min((n for n in timings if n.startswith(kind)), key=lambda n: timings[n].median)


def _cells(
    timings: dict[str, Timing], own: str, rival: str, macs: int, peak: float
) -> dict[str, str]:
    mine, other = timings[own], timings[rival].median
    rate = 2 * macs / mine.median / 1e9
    return {
        "op ms": f"{1e3 * mine.median:.3f}",
        "spread": f"{100 * mine.spread:.0f}%",
        "torch ms": f"{1e3 * other:.3f}",
        "layouts": "/".join(name.split()[-1] for name in (own, rival) if " " in name) or "NHWC",
        "x torch": f"{other / mine.median:.2f}x",
        "GFLOP/s": f"{rate:.0f}",
        "% peak": f"{100 * rate / peak:.0f}%",
        "floor ms": f"{2e3 * macs / peak / 1e9:.3f}",
        "peak": f"{peak:.0f}",
    }
