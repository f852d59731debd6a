"""PCSR x4 with its published weights against the original networks, on a 1024x688 output."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import paper_style_pcsr
import torch
from _executor import executor, run_by
from _maps import LAYOUTS
from _protocol import Call, Timing, verify
from _published import lr_images, published
from _session import Bench, met, smoke
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import sparsesr
from sparsesr import ops, use_backend
from sparsesr.complexity import complexity
from sparsesr.nn import PixelRouter
from sparsesr.nn.pixel_places import pixel_places

TITLE = """PCSR x4, published weights, output 1024x688 of a mosaic of B100 images, each network in
the faster of NCHW and NHWC. vs original: times faster than the network without routing, below 1 is
a loss; MACs: what equally efficient kernels would give; original and paper, the released code's
forward: in plain PyTorch. floor: multiply-adds at the speed of the conv64 probe."""
STAGES = """PCSR x4: where the time goes, NHWC"""
SIZE, HR_SIZE = (172, 256), (688, 1024)
# family, k -> (times the original, times the paper's path)
GOALS = {("carn", 2.0): (1.6, 3.0), ("fsrcnn", 0.0): (None, 5.0)}


@dataclass(frozen=True)
class RoutedCase:
    """A family and how its pixels are routed: the exponent of eq. 10, or None for ADM."""

    family: str
    k: float | None
    quick: bool = False

    def __str__(self) -> str:
        return f"{self.family}-{'adaptive' if self.k is None else f'k{self.k:g}'}"

    @property
    def choice(self) -> dict[str, Any]:
        """Arguments of the call."""
        return {"adaptive": True} if self.k is None else {"k": self.k}


def cases(quick: bool, gpu: bool) -> list[RoutedCase]:
    """All-heavy and all-light by k far out, the paper's settings between."""
    if quick:
        return [RoutedCase("fsrcnn", 0.0, True)]
    found = [RoutedCase("carn", k) for k in (-50.0, 0.0, 1.0, 2.0, None, 50.0)]
    return found + [RoutedCase("fsrcnn", k) for k in (0.0, 1.0, None)]


def bench_pcsr(bench: Bench, case: RoutedCase, benchmark: Any) -> None:
    """One network and one setting; the original beside it."""
    torch.manual_seed(0)
    if case.quick:
        nets: tuple[Any, Any] = (
            sparsesr.create_model(f"{case.family}-pcsr", scale=4).eval(),
            sparsesr.create_model(case.family, scale=4).eval(),
        )
        lr, hr_size = torch.rand(1, 3, 9, 12), (36, 48)
    else:
        nets = (published(f"{case.family}_pcsr_x4.pth"), published(f"{case.family}_x4.pth"))
        lr, hr_size = mosaic(), HR_SIZE
    contenders = _contenders(bench, nets, lr, hr_size, case)
    _verify(bench, contenders)
    timings = bench.time(contenders, rounds=5)
    smoke(benchmark, contenders["pcsr NHWC"], timings["pcsr NHWC"])
    with torch.no_grad():
        heavy = float(
            nets[0](lr, size=hr_size, **case.choice, return_details=True).heavy_fraction()
        )
    facts = {"family": case.family, "k": case.k, "heavy": heavy}
    bench.report.record("pcsr", {**facts, "height": hr_size[0], "width": hr_size[1]}, timings)
    row = _row(bench, case, timings, nets, lr, heavy)
    bench.report.table("pcsr", TITLE).rows.append(row)
    _stages(bench, case, nets[0], lr, hr_size)


def mosaic() -> Tensor:
    """3x3 landscape images of B100, cut to the LR size."""
    images = [x for x in lr_images("B100", 4).values() if x.shape[2] < x.shape[3]][:9]
    side = [torch.cat(images[i : i + 3], dim=3) for i in (0, 3, 6)]
    return torch.cat(side, dim=2)[:, :, : SIZE[0], : SIZE[1]].contiguous()


def _contenders(
    bench: Bench, nets: tuple[Any, Any], lr: Tensor, hr_size: tuple[int, int], case: RoutedCase
) -> dict[str, Call]:
    found: dict[str, Call] = {}
    for layout, memory_format in LAYOUTS.items():
        x = lr.to(bench.device, bench.dtype).contiguous(memory_format=memory_format)
        routed, original = (
            copy.deepcopy(net).to(bench.device, bench.dtype).to(memory_format=memory_format)
            for net in nets
        )
        found[f"pcsr {layout}"] = lambda net=routed, x=x: net(x, size=hr_size, **case.choice)
        found[f"original {layout}"] = run_by("off", lambda net=original, x=x: net(x))
    if case.k is not None and not bench.gpu:
        found["paper"] = run_by(
            "off", lambda: paper_style_pcsr.forward(nets[0], lr, hr_size, case.k)
        )
    return found


def _verify(bench: Bench, contenders: dict[str, Call]) -> None:
    with use_backend("reference"):
        want = contenders["pcsr NCHW"]()
    atol = 1e-4 if bench.dtype == torch.float32 and not bench.gpu else 0.05
    for name in contenders:
        if not name.startswith("original"):
            # A pixel whose classes are as likely as each other may take the other sampler.
            verify(name, contenders[name](), want, atol, outliers=1e-3)
    verify("original", contenders["original NHWC"](), contenders["original NCHW"](), atol)


def _row(
    bench: Bench,
    case: RoutedCase,
    timings: dict[str, Timing],
    nets: tuple[Any, Any],
    lr: Tensor,
    heavy: float,
) -> dict[str, str]:
    def fastest(kind: str) -> tuple[float, str]:
        return min((t.median, n) for n, t in timings.items() if n.startswith(kind))

    (own, layout), (rival, _) = fastest("pcsr"), fastest("original")
    size = (lr.shape[2], lr.shape[3])
    macs = complexity(nets[0], size, budget=heavy).macs
    ceiling = _dense_macs(nets[1], lr) / macs
    paper = timings["paper"].median / own if "paper" in timings else None
    row = {
        "network": f"{case.family}-pcsr",
        "k": "ADM" if case.k is None else f"{case.k:g}",
        "heavy": f"{100 * heavy:.1f}%",
        "layout": layout.split()[-1],
        "ms": f"{1e3 * own:.1f}",
        "original ms": f"{1e3 * rival:.1f}",
        "vs original": f"{rival / own:.2f}x",
        "MACs": f"{ceiling:.2f}x",
        "vs paper": "-" if paper is None else f"{paper:.2f}x",
        "floor ms": f"{2e3 * macs / bench.peak() / 1e9:.1f}",
    }
    for value, goal, words in zip(
        (rival / own, paper),
        GOALS.get((case.family, case.k or 0.0), ()) if case.k is not None else (),
        ("original", "paper"),
        strict=False,
    ):
        if goal is not None and value is not None and not case.quick:
            row["goals"] = row.get("goals", "") + f"{words} >={goal:g}x {met(value, goal)} "
    return row


def _dense_macs(net: nn.Module, lr: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad(), executor("off"):
        net(lr)
    return int(counter.get_total_flops()) // 2


def _stages(
    bench: Bench, case: RoutedCase, net: PixelRouter, lr: Tensor, hr_size: tuple[int, int]
) -> None:
    layout = torch.channels_last
    net = copy.deepcopy(net).to(bench.device, bench.dtype).to(memory_format=layout)
    x = lr.to(bench.device, bench.dtype).contiguous(memory_format=layout)
    places = pixel_places((lr.shape[2], lr.shape[3]), hr_size, x.device)
    feature = net.encode(x)
    logits = net.classify(feature, places)
    costs = net.costs(lr.shape[-2:], hr_size)
    class_map = net.choose(logits, costs, **case.choice)
    sr = net.sample(feature, class_map, places, x)
    timings = bench.time(
        {
            "encode": lambda: net.encode(x),
            "classify": lambda: net.classify(feature, places),
            "choose": lambda: net.choose(logits, costs, **case.choice),
            "sample": lambda: net.sample(feature, class_map, places, x),
            "refine": lambda: ops.average_neighbors(sr, class_map),
            "forward": lambda: net(x, size=hr_size, **case.choice),
        },
        rounds=5,
    )
    row = {"network": str(case)} | {f"{n} ms": f"{1e3 * t.median:.1f}" for n, t in timings.items()}
    bench.report.record("pcsr_stages", {"family": case.family, "k": case.k}, timings)
    bench.report.table("pcsr_stages", STAGES).rows.append(row)
