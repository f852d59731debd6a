"""select_gather_patches: mask -> top K -> patches, and its share of an fsrcnn-mga forward pass."""

from __future__ import annotations

from typing import Any

import paper_style
import torch
from _maps import HALO, LAYOUTS, PATCH_SIZE, Case
from _native_kernel import native_kernel
from _protocol import Timing, verify
from _session import Bench, gigabytes, met, microseconds, smoke, under

import sparsesr
from sparsesr import ops, use_backend

TITLE = """select_gather_patches, p=4, halo 1. op: as a user calls it; two ops: select_patches, then
gather_patches; paper: topk, 0/1 map, nonzero, pad, unfold all windows, index. GB/s of output."""
SHARE_TITLE = "select_gather_patches in the fsrcnn-mga x4 forward pass (given the mask)"


def bench_select_gather_patches(bench: Bench, case: Case, benchmark: Any) -> None:
    """One map, one K: verified, then timed in turn."""
    mask, x = case.mask(), case.map()

    def op() -> tuple[torch.Tensor, torch.Tensor]:
        return ops.select_gather_patches(mask, x, case.k, PATCH_SIZE, HALO)

    def two_ops() -> torch.Tensor:
        return ops.gather_patches(x, ops.select_patches(mask, case.k), PATCH_SIZE, HALO)

    def paper() -> torch.Tensor:
        where = paper_style.select_patches(mask, case.k)
        return paper_style.gather_patches(x, where, PATCH_SIZE, HALO)

    want, index = under("reference", op)()
    verify("two ops", two_ops(), want)
    verify("paper", paper(), want)
    ours = {"op": op} | {name: under(name, op) for name in bench.backends()}
    for name, call in ours.items():
        patches, chosen = call()
        verify(name, patches, want)
        verify(f"{name} index", chosen, index)
    contenders = {**ours, "two ops": two_ops, "paper": paper}
    own, own_index = torch.empty_like(want), torch.empty_like(index)
    kernel = native_kernel(
        "select_gather_patches", own, mask, x, own_index, own, PATCH_SIZE, HALO, PATCH_SIZE, True
    )
    if kernel is not None:
        verify("kernel", kernel.run(), want)
        contenders["kernel"] = kernel
    timings = bench.time(contenders)
    smoke(benchmark, op, timings["op"])
    size = want.numel() * want.element_size()
    bench.report.record("select_gather_patches", {**case.as_dict(), "bytes": size}, timings)
    bench.report.table("select_gather_patches", TITLE).rows.append(
        {
            **case.cells(),
            **microseconds(timings, ("op", *bench.own("kernel"), "two ops", "reference", "paper")),
            **gigabytes(timings, ("op",), size),
            "paper/op": f"{timings['paper'].median / timings['op'].median:.1f}x",
            "spread": f"{100 * timings['op'].spread:.0f}%",
        }
    )


def bench_share_of_forward(bench: Bench) -> None:
    """What the op costs inside the network, at K = 1000."""
    height, width, k = (30, 32, 6) if bench.quick else (270, 480, 1000)
    net = sparsesr.create_model("fsrcnn-mga", scale=4).eval()
    for layout, memory_format in LAYOUTS.items():
        net = net.to(memory_format=memory_format)
        lr = torch.rand(1, 3, height, width).contiguous(memory_format=memory_format)
        out = net(lr, k=k, return_details=True)
        feature = net.coarse_and_feature(lr)[1]
        with use_backend("reference"):
            want = ops.select_gather_patches(out.mask[:, 0], feature, k, PATCH_SIZE, HALO)[0]

        def op(mask: torch.Tensor = out.mask[:, 0], x: torch.Tensor = feature) -> torch.Tensor:
            return ops.select_gather_patches(mask, x, k, PATCH_SIZE, HALO)[0]

        def forward(net: torch.nn.Module = net, lr: torch.Tensor = lr) -> torch.Tensor:
            return net(lr, k=k)

        verify("op", op(), want)
        timings = bench.time({"op": op, "forward": forward})
        case = Case(feature.shape[1], height, width, layout, k)
        _report_share(bench, case, timings)


def _report_share(bench: Bench, case: Case, timings: dict[str, Timing]) -> None:
    bench.report.record("select_gather_patches_share", case.as_dict(), timings)
    share = timings["op"].median / timings["forward"].median
    bench.report.table("select_gather_patches_share", SHARE_TITLE).rows.append(
        {
            **case.cells(),
            **microseconds(timings, ("op", "forward")),
            "share": f"{100 * share:.2f}%",
            "goals": f"share <3% {met(0.03, share)}",
        }
    )
