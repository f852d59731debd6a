"""SMSR x2 with its published weights, whole network: sparse masks against the dense network."""

from __future__ import annotations

import copy
import statistics
from dataclasses import dataclass
from typing import Any

import paper_style_smsr
import pytest
import torch
from _maps import LAYOUTS
from _masked import smsr_macs
from _protocol import Call, Timing, verify
from _published import lr_images, published
from _session import Bench, met, smoke
from torch import Tensor, nn

import sparsesr
from sparsesr import use_backend

TITLE = """SMSR x2, published weights, each image alone: the network under its masks (`smsr`)
against the same network without masks and mask predictors (`dense`), each in the faster of NCHW
and NHWC. vs dense: times faster, below 1 is a loss; MACs: what equally efficient kernels would
give; paper: the released code's sparse path in plain PyTorch."""
SUMMARY = "SMSR x2: geometric means over each set, of the rows above"
# What is asked of one thread: geometric mean, worst image, times the paper's path.
GOALS = {"Set5": (1.5, None, 2.5), "Set14": (1.25, None, 3.0), "B100": (1.25, 0.9, None)}
PAPER_STYLE = ("Set5", "Set14", "quick")


@dataclass(frozen=True)
class SetCase:
    """A data set; "quick" is one random image and random weights."""

    dataset: str
    rounds: int

    def __str__(self) -> str:
        return self.dataset


def cases(quick: bool, gpu: bool) -> list[SetCase]:
    """The three sets of the paper's kind."""
    if quick:
        return [SetCase("quick", 3)]
    return [SetCase("Set5", 5), SetCase("Set14", 3), SetCase("B100", 3)]


def bench_smsr(bench: Bench, case: SetCase, benchmark: Any, full: bool) -> None:
    """Every image of a set, its contenders in one interleaved run."""
    if case.dataset in ("Set14", "B100") and not (full or bench.gpu):
        pytest.skip("takes minutes: behind --full")
    torch.manual_seed(0)
    if case.dataset == "quick":
        net: nn.Module = sparsesr.create_model("smsr", scale=2).eval()
        images = {"random": torch.rand(1, 3, 18, 14)}
    else:
        net, images = published("smsr_x2.pt"), lr_images(case.dataset, 2)
    nets = {
        layout: copy.deepcopy(net).to(bench.device, bench.dtype).to(memory_format=memory_format)
        for layout, memory_format in LAYOUTS.items()
    }
    rows = []
    for name, image in images.items():
        contenders = _contenders(nets, image.to(bench.device, bench.dtype), case.dataset)
        _verify(bench, contenders)
        timings = bench.time(contenders, case.rounds)
        facts = {"set": case.dataset, "image": name, "height": image.shape[2]}
        bench.report.record("smsr", {**facts, "width": image.shape[3]}, timings)
        rows.append(_row(name, case.dataset, timings, net, image))
        bench.report.table("smsr", TITLE).rows.append(_texts(rows[-1]))
    smoke(benchmark, contenders["smsr NHWC"], timings["smsr NHWC"])
    _summarise(bench, case.dataset, rows)


def _contenders(nets: dict[str, nn.Module], image: Tensor, dataset: str) -> dict[str, Call]:
    found: dict[str, Call] = {}
    for layout, net in nets.items():
        lr = image.contiguous(memory_format=LAYOUTS[layout])
        found[f"smsr {layout}"] = lambda net=net, lr=lr: net(lr)
        found[f"dense {layout}"] = lambda net=net, lr=lr: net(lr, masked=False)
    if dataset in PAPER_STYLE:
        lr = image.contiguous()
        found["paper"] = lambda: paper_style_smsr.forward(nets["NCHW"], lr)
    return found


def _verify(bench: Bench, contenders: dict[str, Call]) -> None:
    with use_backend("reference"):
        want = contenders["smsr NCHW"]()
    exact = bench.dtype == torch.float32 and not bench.gpu
    for name in contenders:
        if not name.startswith("dense"):
            # A logit that rounds to the other side of 0 switches a pixel: up to some grey levels in
            # the 80x80 around it, of a few pixels in a set of images.
            verify(name, contenders[name](), want, 1e-4 if exact else 0.02, outliers=0.05)
    verify("dense", contenders["dense NHWC"](), contenders["dense NCHW"](), 1e-4 if exact else 0.1)


def _row(
    name: str, dataset: str, timings: dict[str, Timing], net: nn.Module, image: Tensor
) -> dict[str, Any]:
    def fastest(kind: str) -> float:
        return min(t.median for n, t in timings.items() if n.startswith(kind))

    dense, sparse = smsr_macs(net, image)
    sparsity = float(net(image, return_details=True).sparsity())
    return {
        "set": dataset,
        "image": name,
        "LR": f"{image.shape[3]}x{image.shape[2]}",
        "sparsity": sparsity,
        "smsr": fastest("smsr"),
        "dense": fastest("dense"),
        "paper": timings["paper"].median if "paper" in timings else None,
        "MACs": dense / sparse,
    }


def _texts(row: dict[str, Any]) -> dict[str, str]:
    gain, paper = row["dense"] / row["smsr"], row["paper"]
    return {
        "set": row["set"],
        "image": row["image"],
        "LR": row["LR"],
        "sparsity": f"{row['sparsity']:.3f}",
        "smsr ms": f"{1e3 * row['smsr']:.1f}",
        "dense ms": f"{1e3 * row['dense']:.1f}",
        "vs dense": f"{gain:.2f}x",
        "MACs": f"{row['MACs']:.2f}x",
        "kept": f"{100 * gain / row['MACs']:.0f}%",
        "vs paper": "-" if paper is None else f"{paper / row['smsr']:.2f}x",
    }


def _summarise(bench: Bench, dataset: str, rows: list[dict[str, Any]]) -> None:
    gains = [row["dense"] / row["smsr"] for row in rows]
    mean = statistics.geometric_mean(gains)
    ceiling = statistics.geometric_mean([row["MACs"] for row in rows])
    papers = [row["paper"] / row["smsr"] for row in rows if row["paper"] is not None]
    paper = statistics.geometric_mean(papers) if papers else None
    text = {
        "set": dataset,
        "images": str(len(rows)),
        "sparsity": f"{statistics.mean(row['sparsity'] for row in rows):.3f}",
        "vs dense": f"{mean:.2f}x",
        "worst": f"{min(gains):.2f}x",
        "best": f"{max(gains):.2f}x",
        "MACs": f"{ceiling:.2f}x",
        "kept": f"{100 * mean / ceiling:.0f}%",
        "vs paper": "-" if paper is None else f"{paper:.2f}x",
    }
    for value, goal, what in zip(
        (mean, min(gains), paper), GOALS.get(dataset, ()), ("mean", "worst", "paper"), strict=False
    ):
        if goal is not None and value is not None:
            text["goals"] = text.get("goals", "") + f"{what} >={goal:g}x {met(value, goal)} "
    bench.report.table("smsr_sets", SUMMARY).rows.append(text)
