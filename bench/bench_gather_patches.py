"""gather_patches: chosen windows of a map as one batch, against copying as many bytes."""

from __future__ import annotations

from typing import Any

import paper_style
import torch
from _maps import HALO, PATCH_SIZE, Case
from _native_kernel import native_kernel
from _protocol import Timing, verify
from _session import Bench, best, gigabytes, met, microseconds, rate, smoke, under

from sparsesr import ops

TITLE = """gather_patches, p=4, halo 1 -> [K,C,6,6]. op: as a user calls it; kernel: native code,
output allocated beforehand; paper: pad, unfold all windows, index; memcpy: of the output's bytes.
GB/s of output bytes."""


def bench_gather_patches(bench: Bench, case: Case, benchmark: Any) -> None:
    """One map, one K: verified, then timed in turn."""
    x = case.map()
    index = ops.select_patches(case.mask(), case.k)
    where = index.flatten().long()

    def op() -> torch.Tensor:
        return ops.gather_patches(x, index, PATCH_SIZE, HALO)

    def paper() -> torch.Tensor:
        return paper_style.gather_patches(x, where, PATCH_SIZE, HALO)

    want = under("reference", op)()
    contenders = {"op": op, "paper": paper} | {n: under(n, op) for n in bench.backends()}
    for name, call in contenders.items():
        verify(name, call(), want)
    out, source = torch.empty_like(want), want.clone()
    contenders["memcpy"] = lambda: out.copy_(source)
    own = torch.empty_like(want)
    kernel = native_kernel("gather_patches", own, x, index, own, PATCH_SIZE, HALO, PATCH_SIZE)
    if kernel is not None:
        verify("kernel", kernel.run(), want)
        contenders["kernel"] = kernel
    timings = bench.time(contenders)
    smoke(benchmark, op, timings["op"])
    _report(bench, case, timings, out.numel() * out.element_size())


def _report(bench: Bench, case: Case, timings: dict[str, Timing], size: int) -> None:
    bench.report.record("gather_patches", {**case.as_dict(), "bytes": size}, timings)
    gain = timings["paper"].median / timings["op"].median
    cells = {
        **case.cells(),
        **microseconds(timings, ("op", *bench.own("kernel"), "reference", "paper")),
        **gigabytes(timings, ("op", *bench.own("kernel"), "memcpy"), size),
        **best(timings, "op" if bench.gpu else "kernel", size),
        "paper/op": f"{gain:.1f}x",
        "spread": f"{100 * timings['op'].spread:.0f}%",
    }
    if bench.gpu and case.asked_of_gpu:
        share = timings["memcpy"].median / timings["op"].median
        cells["goals"] = f"op >=70% of memcpy {100 * share:.0f}% {met(share, 0.7)}"
    if case.asked and not bench.gpu:
        goal, factor = (20, 30) if case.k <= 1024 else (10, 15)
        moved = met(rate(timings, "kernel", size), goal)
        cells["goals"] = f"kernel >={goal} GB/s {moved}, >={factor}x {met(gain, factor)}"
    bench.report.table("gather_patches", TITLE).rows.append(cells)
