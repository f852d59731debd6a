"""select_patches: the k best scores of a mask as ascending indices."""

from __future__ import annotations

from typing import Any

import paper_style
import torch
from _maps import Case
from _native_kernel import native_kernel
from _protocol import Timing, verify
from _session import Bench, met, microseconds, smoke, under

from sparsesr import ops

TITLE = """select_patches. op: as a user calls it; kernel: native code alone, output allocated;
topk: torch.topk and a sort; paper: topk, 0/1 map, nonzero."""


def cases(quick: bool, gpu: bool) -> list[Case]:
    """Masks of LR images at p=4, up to 129,600 scores; channels play no part."""
    if quick:
        return [Case(1, 30, 32, "NCHW", 6)]
    sizes = ((256, 256), (270, 480), (1080, 1920))
    if gpu:
        sizes = ((270, 480), (540, 960), (1080, 1920))
    return [Case(1, h, w, "NCHW", k) for h, w in sizes for k in (205, 1000, 2048)]


def bench_select_patches(bench: Bench, case: Case, benchmark: Any) -> None:
    """One mask, one K: verified, then timed in turn."""
    mask = case.mask()

    def op() -> torch.Tensor:
        return ops.select_patches(mask, case.k)

    def topk() -> torch.Tensor:
        return mask.flatten(1).topk(case.k, dim=1, sorted=False).indices.sort(dim=1).values

    def paper() -> torch.Tensor:
        return paper_style.select_patches(mask, case.k)

    want = under("reference", op)()
    contenders = {"op": op, "topk": topk, "paper": paper}
    contenders |= {name: under(name, op) for name in bench.backends()}
    for name, call in contenders.items():
        verify(name, call().view_as(want), want)
    own = torch.empty_like(want)
    kernel = native_kernel("select_patches", own, mask, own, True)
    if kernel is not None:
        verify("kernel", kernel.run(), want)
        contenders["kernel"] = kernel
    timings = bench.time(contenders)
    smoke(benchmark, op, timings["op"])
    _report(bench, case, timings)


def _report(bench: Bench, case: Case, timings: dict[str, Timing]) -> None:
    bench.report.record("select_patches", case.as_dict(), timings)
    rows, cols = case.grid
    cells = {name: text for name, text in case.cells().items() if name not in ("C", "layout")}
    cells |= {
        "mask": f"{rows}x{cols}",
        **microseconds(timings, ("op", *bench.own("kernel"), "reference", "topk", "paper")),
        "paper/op": f"{timings['paper'].median / timings['op'].median:.1f}x",
        "spread": f"{100 * timings['op'].spread:.0f}%",
    }
    if bench.gpu and rows * cols == 32400:
        cells["goals"] = f"op <=20 us {met(20e-6, timings['op'].median)}"
    bench.report.table("select_patches", TITLE).rows.append(cells)
