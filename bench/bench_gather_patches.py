"""gather_patches: chosen windows of a map as one batch, against copying as many bytes."""

from __future__ import annotations

from typing import Any

import paper_style
import torch
from _maps import HALO, PATCH_SIZE, Case
from _native_kernel import native_kernel
from _protocol import Timing, verify
from _session import Bench, best, gigabytes, met, microseconds, rate, smoke

from sparsesr import ops, use_backend

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

    def reference() -> torch.Tensor:
        with use_backend("reference"):
            return op()

    def paper() -> torch.Tensor:
        return paper_style.gather_patches(x, where, PATCH_SIZE, HALO)

    want = reference()
    verify("op", op(), want)
    verify("paper", paper(), want)
    out, source = torch.empty_like(want), want.clone()
    contenders = {
        "op": op,
        "reference": reference,
        "paper": paper,
        "memcpy": lambda: out.copy_(source),
    }
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
        **microseconds(timings, ("op", "kernel", "reference", "paper")),
        **gigabytes(timings, ("op", "kernel", "memcpy"), size),
        **best(timings, "kernel", size),
        "paper/op": f"{gain:.1f}x",
        "spread": f"{100 * timings['op'].spread:.0f}%",
    }
    if case.asked:
        goal, factor = (20, 30) if case.k <= 1024 else (10, 15)
        moved = met(rate(timings, "kernel", size), goal)
        cells["goals"] = f"kernel >={goal} GB/s {moved}, >={factor}x {met(gain, factor)}"
    bench.report.table("gather_patches", TITLE).rows.append(cells)
