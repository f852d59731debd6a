"""scatter_patches and scatter_patches_: patches back into a map, against cloning the map."""

from __future__ import annotations

from typing import Any

import paper_style
import torch
from _maps import LAYOUTS, Case, map_cases
from _native_kernel import native_kernel
from _protocol import Timing, verify
from _session import Bench, best, gigabytes, met, microseconds, rate, smoke, under

from sparsesr import ops

TITLE = """scatter_patches, replace. op: scatter_patches, in place: scatter_patches_, as a user
calls them; kernel: native in-place code; cuda, triton: in place on that backend; paper: clone, then
index assignment; clone: of canvas; memcpy: of the patches' bytes. GB/s of patch bytes."""


def cases(quick: bool, gpu: bool) -> list[Case]:
    """The maps of the other benches, and the canvas of a x4 network: RGB, 16 px a patch."""
    if quick:
        return map_cases(quick, gpu)
    height, width, ks = (2160, 3840, (1000, 8100)) if gpu else (1080, 1920, (240, 1000, 2025))
    image = [Case(3, height, width, layout, k, patch_size=16) for layout in LAYOUTS for k in ks]
    return map_cases(quick, gpu) + image


def bench_scatter_patches(bench: Bench, case: Case, benchmark: Any) -> None:
    """One canvas, one K: verified, then timed in turn."""
    p = case.patch_size
    canvas, patches = case.map(), case.patches()
    index = ops.select_patches(case.mask(), case.k)
    where = index.flatten().long()
    written = canvas.clone(memory_format=torch.preserve_format)

    def op() -> torch.Tensor:
        return ops.scatter_patches(canvas, patches, index, p)

    def in_place() -> torch.Tensor:
        return ops.scatter_patches_(written, patches, index, p)

    def paper() -> torch.Tensor:
        return paper_style.scatter_patches(canvas, patches, where, p)

    want = under("reference", op)()
    contenders = {"op": op, "in place": in_place, "paper": paper}
    contenders |= {name: under(name, in_place if bench.gpu else op) for name in bench.backends()}
    for name, call in contenders.items():
        verify(name, call(), want)
    source, target = patches.clone(), torch.empty_like(patches)
    contenders["memcpy"] = lambda: target.copy_(source)
    contenders["clone"] = lambda: canvas.clone()
    kernel = native_kernel(
        "scatter_patches", written, written, patches, index, written, p, p, False
    )
    if kernel is not None:
        verify("kernel", kernel.run(), want)
        contenders["kernel"] = kernel
    timings = bench.time(contenders)
    smoke(benchmark, in_place, timings["in place"])
    _report(bench, case, timings, patches.numel() * patches.element_size())


def _report(bench: Bench, case: Case, timings: dict[str, Timing], size: int) -> None:
    bench.report.record("scatter_patches", {**case.as_dict(), "bytes": size}, timings)
    over_clone = timings["op"].median / timings["clone"].median
    cells = {
        **case.cells(),
        **microseconds(
            timings, ("in place", *bench.own("kernel"), "op", "clone", "reference", "paper")
        ),
        **gigabytes(timings, ("in place", *bench.own("kernel"), "memcpy"), size),
        **best(timings, "in place" if bench.gpu else "kernel", size),
        "op/clone": f"{over_clone:.2f}",
        "paper/op": f"{timings['paper'].median / timings['op'].median:.1f}x",
        "spread": f"{100 * timings['op'].spread:.0f}%",
    }
    if bench.gpu and case.asked_of_gpu:
        share = timings["memcpy"].median / timings["in place"].median
        cells["goals"] = f"in place >=70% of memcpy {100 * share:.0f}% {met(share, 0.7)}"
    if case.asked and not bench.gpu:
        moved = met(rate(timings, "in place", size), 10)
        cells["goals"] = f"in place >=10 GB/s {moved}, op <=1.3 clones {met(1.3, over_clone)}"
    bench.report.table("scatter_patches", TITLE).rows.append(cells)
