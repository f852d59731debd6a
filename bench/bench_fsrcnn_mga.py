"""FSRCNN-MGA x4 end to end at LR 480x270, against the dense network in every form."""

from __future__ import annotations

from typing import Any

import _engines
import torch
from _break_even import break_even
from _executor import executor
from _maps import LAYOUTS
from _networks import (
    Contender,
    Forms,
    dense_contenders,
    forms,
    own_dense_contenders,
    paper_contenders,
    sparse_contenders,
)
from _programs import in_a_row
from _protocol import Call, Timing, verify
from _session import Bench, smoke

from sparsesr import ops, use_backend
from sparsesr.ops import patch_grid

TITLE = """fsrcnn-mga x4. Dense: dnet lean (only what its output needs), dnet published (coarse
image too); sparsesr: by our programs. mga layered: the Refine-Net in torch on gathered patches;
fused: as a program. vs lean, vs published: times faster than the fastest such form in eager torch;
below 1 is slower. vs any: than the fastest lean form in any other engine, fp32. vs own: than our
own lean dense one. vs paper: than mga paper-style at the same K. floor: MACs that are not on
padding at the FMA peak of the same run. MAC ceiling: lean MACs / own MACs."""
EXECUTORS = ("layered", "fused")
ROUNDS = 7
STAGE_TITLE = """fsrcnn-mga x4, stages of one forward pass; refine_patches_ is gather, refine and
paste as a program"""


def bench_fsrcnn_mga(bench: Bench, benchmark: Any) -> None:
    """All contenders of one network in one interleaved run."""
    height, width, ks = (32, 48, (6, None)) if bench.quick else (270, 480, (240, 1000, 2025, None))
    nets = forms("fsrcnn", 4)
    lr = torch.rand(1, 3, height, width)
    dense = dense_contenders(nets.dnet, lr)
    notes = ["weights: " + ("shipped" if nets.trained else "random")]
    if bench.compile:
        dense += _engines.compiled(nets.dnet, lr, dense[0])
    else:
        notes.append("torch.compile: skipped, ask for it with --compile")
    if not bench.quick and not bench.gpu:
        dense += _engines.installed(nets.dnet, lr, dense[0], bench.threads)
        notes += _engines.skipped()
    dense += own_dense_contenders(nets.dnet, dense[0], lr)
    sparse = sparse_contenders(nets.mga, lr, ks, EXECUTORS) + paper_contenders(nets.mga, lr, ks)
    _verify(bench, nets, lr, dense, sparse)

    contenders = {c.name: c for c in dense + sparse}
    timings, peak = bench.time_beside_peak({n: c.run for n, c in contenders.items()}, ROUNDS)
    if bench.gpu:
        eager = sorted(name for name, timing in timings.items() if not timing.graphed)
        notes.append(f"run eagerly, not from a CUDA graph: {', '.join(eager) or 'none'}")
    ours = next(c for c in sparse if c.engine == "sparsesr fused")
    smoke(benchmark, ours.run, timings[ours.name])
    _report(bench, (height, width), nets, contenders, timings, peak, notes)


def _verify(
    bench: Bench, nets: Forms, lr: torch.Tensor, dense: list[Contender], sparse: list[Contender]
) -> None:
    rows, cols = patch_grid(lr.shape[2], lr.shape[3], nets.mga.patch_size)
    # Scores that differ in the last bit may swap the last patch in for the first one out; 16-bit
    # scores have many equals, and the GPU's float32 convolutions compute in TensorFloat-32.
    atol, outliers = (5e-3 if bench.gpu else 1e-4), 4 / (rows * cols)
    if bench.dtype != torch.float32:
        atol, outliers = 0.1, 0.02
    with executor("off"):
        want = nets.dnet(lr)
    for contender in dense:
        verify(contender.name, contender.run(), want, atol=atol if contender.exact else 0.1)
    for contender in sparse:
        with use_backend("reference"), executor("off"):
            want = nets.mga(lr, k=contender.k)
        verify(contender.name, contender.run(), want, atol, outliers)


def _report(
    bench: Bench,
    size: tuple[int, int],
    nets: Forms,
    contenders: dict[str, Contender],
    timings: dict[str, Timing],
    peak: float,
    notes: list[str],
) -> None:
    seconds = {name: t.median for name, t in timings.items()}
    rows, cols = patch_grid(*size, nets.mga.patch_size)
    case = {"model": "fsrcnn-mga-x4", "height": size[0], "width": size[1], "patches": rows * cols}
    bench.report.record("fsrcnn_mga", {**case, "peak_gflops": peak}, timings)
    lean = [c for c in contenders.values() if c.form == "dnet lean" and c.exact]

    def fastest(among: list[Contender]) -> Contender:
        return min(among, key=lambda c: seconds[c.name])

    eager = fastest([c for c in lean if c.engine == "torch"])
    anyone = fastest([c for c in lean if not c.ours])
    own_dense = fastest([c for c in lean if c.ours])
    published = fastest([c for c in contenders.values() if c.form == "dnet published"])
    rivals = {"lean": eager, "published": published, "any": anyone, "own": own_dense}
    table = bench.report.table("fsrcnn_mga", TITLE)
    for name, c in contenders.items():
        own = seconds[name]
        row = {"form": c.form, "engine": c.engine, "upsampler": c.upsampler, "layout": c.layout}
        row |= {"LR": f"{size[1]}x{size[0]}", "K": "-", "cover": "-"}
        if c.k is not None:
            row |= {"K": str(c.k), "cover": f"{100 * c.k / (rows * cols):.1f}%"}
        row |= {"ms": f"{1e3 * own:.2f}", "spread": f"{100 * timings[name].spread:.0f}%"}
        for column, rival in rivals.items():
            row[f"vs {column}"] = f"{seconds[rival.name] / own:.2f}x"
        paper = (r for r in contenders.values() if r.form == "mga paper-style" and r.k == c.k)
        released = next(paper, None)
        row["vs paper"] = "-" if released is None else f"{seconds[released.name] / own:.2f}x"
        row["GMACs"] = f"{c.macs / 1e9:.3f}"
        row["floor ms"] = f"{2e3 * c.useful / peak / 1e9:.2f}"
        row["MAC ceiling"] = f"{eager.macs / c.macs:.2f}x"
        table.rows.append(row)
    table.notes += notes
    table.notes.append(
        f"fastest lean dense: eager torch {eager.name}; any other engine {anyone.name}; "
        f"ours {own_dense.name}; FMA peak {peak:.0f} GFLOP/s"
    )
    for name in EXECUTORS:
        for layout in LAYOUTS:
            ours = [
                (c.k, seconds[c.name])
                for c in contenders.values()
                if (c.form, c.engine, c.layout) == ("mga", f"sparsesr {name}", layout) and c.k
            ]
            table.notes += [
                break_even(f"mga sparsesr {name} {layout}", ours, rival, rows * cols)
                for rival in ((d.engine, seconds[d.name]) for d in (eager, own_dense))
            ]


def bench_stages(bench: Bench) -> None:
    """Where the time of one forward pass goes."""
    height, width, k = (32, 48, 6) if bench.quick else (270, 480, 1000)
    for layout, memory_format in LAYOUTS.items():
        net = forms("fsrcnn", 4).mga.to(memory_format=memory_format)
        lr = torch.rand(1, 3, height, width).contiguous(memory_format=memory_format)
        timings = bench.time(_stages(net, lr, k), ROUNDS)
        case = {"model": "fsrcnn-mga-x4", "height": height, "width": width, "k": k}
        bench.report.record("fsrcnn_mga_stages", {**case, "layout": layout}, timings)
        row = {"LR": f"{width}x{height}", "K": str(k), "layout": layout}
        row |= {f"{name} ms": f"{1e3 * t.median:.3f}" for name, t in timings.items()}
        bench.report.table("fsrcnn_mga_stages", STAGE_TITLE).rows.append(row)


def _stages(net: Any, lr: torch.Tensor, k: int) -> dict[str, Call]:
    coarse, feature = net.coarse_and_feature(lr)
    mask = net.score(feature)
    index = net.select(mask, k)
    gathered = net.gather(feature, index)
    patches = net.refine(gathered)
    program = in_a_row(net.refine.mapping, net.refine.tail, net.refine.upsampler)
    verify("stages", net.paste(coarse, patches, index), net(lr, k=k), atol=1e-4)
    return {
        "base": lambda: net.coarse_and_feature(lr),
        "trunk": lambda: net.base.features(lr),
        "mask": lambda: net.score(feature),
        "select": lambda: net.select(mask, k),
        "gather": lambda: net.gather(feature, index),
        "refine": lambda: net.refine(gathered),
        "paste": lambda: net.paste(coarse, patches, index, inplace=True),
        "refine_patches_": lambda: ops.refine_patches_(
            coarse, feature, index, program.weights, program.text, net.patch_size, net.halo
        ),
        "forward": lambda: net(lr, k=k),
    }
