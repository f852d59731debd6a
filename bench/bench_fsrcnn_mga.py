"""FSRCNN-MGA x4 end to end at LR 480x270, against the dense network in every form."""

from __future__ import annotations

from typing import Any

import _engines
import torch
from _maps import LAYOUTS
from _networks import Contender, Forms, dense_contenders, forms, sparse_contenders
from _protocol import Call, Timing, verify
from _session import Bench, smoke

from sparsesr import use_backend
from sparsesr.ops import patch_grid

TITLE = """fsrcnn-mga x4. Dense: dnet lean (only what its output needs), dnet published (coarse
image too). vs lean, vs published: times faster than the fastest such form in eager torch; below 1
is slower. vs any: than the fastest lean form in any engine, fp32. vs paper: than mga paper-style at
the same K. floor: true MACs at the speed of the conv64 probe, a stand-in for the FMA peak.
MAC ceiling: lean MACs / own MACs."""
ROUNDS = 7
STAGE_TITLE = "fsrcnn-mga x4, stages of one forward pass"


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
    sparse = sparse_contenders(nets.mga, lr, ks)
    _verify(bench, nets, lr, dense, sparse)

    contenders = {c.name: c for c in dense + sparse}
    timings = bench.time({name: c.run for name, c in contenders.items()}, ROUNDS)
    if bench.gpu:
        eager = sorted(name for name, timing in timings.items() if not timing.graphed)
        notes.append(f"run eagerly, not from a CUDA graph: {', '.join(eager) or 'none'}")
    ours = next(c for c in sparse if c.engine == "sparsesr")
    smoke(benchmark, ours.run, timings[ours.name])
    _report(bench, (height, width), nets, contenders, timings, notes)


def _verify(
    bench: Bench, nets: Forms, lr: torch.Tensor, dense: list[Contender], sparse: list[Contender]
) -> None:
    rows, cols = patch_grid(lr.shape[2], lr.shape[3], nets.mga.patch_size)
    # Scores that differ in the last bit may swap the last patch in for the first one out; 16-bit
    # scores have many equals, and the GPU's float32 convolutions compute in TensorFloat-32.
    atol, outliers = (5e-3 if bench.gpu else 1e-4), 4 / (rows * cols)
    if bench.dtype != torch.float32:
        atol, outliers = 0.1, 0.02
    want = nets.dnet(lr)
    for contender in dense:
        verify(contender.name, contender.run(), want, atol=atol if contender.exact else 0.1)
    for contender in sparse:
        with use_backend("reference"):
            want = nets.mga(lr, k=contender.k)
        verify(contender.name, contender.run(), want, atol, outliers)


def _report(
    bench: Bench,
    size: tuple[int, int],
    nets: Forms,
    contenders: dict[str, Contender],
    timings: dict[str, Timing],
    notes: list[str],
) -> None:
    seconds = {name: t.median for name, t in timings.items()}
    rows, cols = patch_grid(*size, nets.mga.patch_size)
    case = {"model": "fsrcnn-mga-x4", "height": size[0], "width": size[1], "patches": rows * cols}
    bench.report.record("fsrcnn_mga", case, timings)
    lean = [c for c in contenders.values() if c.form == "dnet lean" and c.exact]
    eager = min((c for c in lean if c.engine == "torch"), key=lambda c: seconds[c.name])
    anyone = min(lean, key=lambda c: seconds[c.name])
    published = min(
        (c for c in contenders.values() if c.form == "dnet published"),
        key=lambda c: seconds[c.name],
    )
    table = bench.report.table("fsrcnn_mga", TITLE)
    for name, c in contenders.items():
        own = seconds[name]
        row = {"form": c.form, "engine": c.engine, "upsampler": c.upsampler, "layout": c.layout}
        row |= {"LR": f"{size[1]}x{size[0]}", "K": "-", "cover": "-"}
        if c.k is not None:
            row |= {"K": str(c.k), "cover": f"{100 * c.k / (rows * cols):.1f}%"}
        row |= {"ms": f"{1e3 * own:.2f}", "spread": f"{100 * timings[name].spread:.0f}%"}
        for column, rival in (("lean", eager), ("published", published), ("any", anyone)):
            row[f"vs {column}"] = f"{seconds[rival.name] / own:.2f}x"
        paper = (r for r in contenders.values() if r.form == "mga paper-style" and r.k == c.k)
        rival = next(paper, None)
        row["vs paper"] = "-" if rival is None else f"{seconds[rival.name] / own:.2f}x"
        row["GMACs"] = f"{c.macs / 1e9:.3f}"
        row["floor ms"] = f"{2 * c.macs / bench.peak() / 1e6:.2f}"
        row["MAC ceiling"] = f"{eager.macs / c.macs:.2f}x"
        table.rows.append(row)
    table.notes += notes
    table.notes.append(f"fastest lean dense: eager torch {eager.name}; any engine {anyone.name}")
    table.notes += [
        _break_even(contenders, seconds, layout, eager, rows * cols) for layout in LAYOUTS
    ]


def _break_even(
    contenders: dict[str, Contender],
    seconds: dict[str, float],
    layout: str,
    dense: Contender,
    patches: int,
) -> str:
    """Coverage at which ours takes as long as the dense network: time is a line in K."""
    ours = [c for c in contenders.values() if c.engine == "sparsesr" and c.layout == layout]
    ks = torch.tensor([[1.0, float(c.k or 0)] for c in ours], dtype=torch.float64)
    times = torch.tensor([[seconds[c.name]] for c in ours], dtype=torch.float64)
    fixed, slope = torch.linalg.lstsq(ks, times).solution[:, 0].tolist()
    head = f"break-even, ours {layout}: {1e3 * fixed:.2f} ms + {1e6 * slope:.2f} us per patch; "
    room = seconds[dense.name] - fixed
    if room <= 0:
        return head + "slower than the lean dense network at any coverage"
    coverage = room / slope / patches if slope > 0 else float("inf")
    if coverage >= 1:
        return head + "faster than the lean dense network at every coverage"
    return head + f"as slow as the lean dense network at {100 * coverage:.1f}% coverage"


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
    verify("stages", net.paste(coarse, patches, index), net(lr, k=k), atol=1e-6)
    return {
        "base": lambda: net.coarse_and_feature(lr),
        "trunk": lambda: net.base.features(lr),
        "mask": lambda: net.score(feature),
        "select": lambda: net.select(mask, k),
        "gather": lambda: net.gather(feature, index),
        "refine": lambda: net.refine(gathered),
        "paste": lambda: net.paste(coarse, patches, index, inplace=True),
        "forward": lambda: net(lr, k=k),
    }
