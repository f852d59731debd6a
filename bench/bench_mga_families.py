"""The five MGA families x4 end to end: what of each MAC ratio becomes time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import _engines
import pytest
import torch
from _break_even import break_even
from _executor import executor
from _networks import (
    Contender,
    dense_contenders,
    forms,
    own_dense_contenders,
    sparse_contenders,
)
from _protocol import Timing, verify
from _session import Bench, met, smoke

from sparsesr import use_backend
from sparsesr.ops import patch_grid

TITLE = """MGA families x4, K patches, against their D-Net in torch, lean (only what its output
needs) and as published (coarse image too), lean in OpenVINO, fp32, and lean as we run it ourselves
(own), each in the faster of NCHW and NHWC. mga-light: our form with a light coarse head. vs: times
faster, below 1 is a loss. MACs: what equally efficient kernels would give (true multiply-adds).
kept: their quotient. floor: multiply-adds that are not on padding at the FMA peak of the same
run."""
FAMILIES = ("fsrcnn", "pan", "rfdn", "srresnet", "rcan")
GOAL = 0.85  # of the MAC ratio, for families of 40 and more channels


@dataclass(frozen=True)
class FamilyCase:
    """One family at one LR size."""

    family: str
    height: int
    width: int
    k: int

    def __str__(self) -> str:
        return f"{self.family}-{self.width}x{self.height}-K{self.k}"


def cases(quick: bool, gpu: bool) -> list[FamilyCase]:
    """LR 480x270 and 960x540 (4K), and 256x256, the paper's mobile case, for RCAN."""
    if quick:
        return [FamilyCase("fsrcnn", 24, 32, 6), FamilyCase("pan", 16, 20, 6)]
    found = [FamilyCase(f, h, w, 1000) for h, w in ((270, 480), (540, 960)) for f in FAMILIES]
    return [*found, FamilyCase("rcan", 256, 256, 1000)]


def _takes_minutes(case: FamilyCase) -> bool:
    large = case.family in ("srresnet", "rcan") and case.height == 540
    return large or (case.height, case.width) == (256, 256)


def bench_mga_families(bench: Bench, case: FamilyCase, benchmark: Any, full: bool) -> None:
    """One family: dense and sparse contenders in one interleaved run."""
    if _takes_minutes(case) and not (full or bench.gpu):
        pytest.skip("takes minutes: behind --full")
    nets = forms(case.family, 4)
    lr = torch.rand(1, 3, case.height, case.width)
    dense = [c for c in dense_contenders(nets.dnet, lr) if c.upsampler != "deconv"]
    dense += own_dense_contenders(nets.dnet, dense[0], lr)
    if not bench.gpu:
        options = {"upsamplers": ("sub-pixel",), "among": ("OpenVINO",)}
        dense += _engines.installed(nets.dnet, lr, dense[0], bench.threads, **options)
    _verify_dense(bench, dense)
    sparse = {}
    for form, net in {"mga": nets.mga, "mga-light": nets.light}.items():
        sparse[form] = sparse_contenders(net, lr, (0, case.k // 4, case.k), form=form)
        _verify_sparse(bench, net, lr, sparse[form])
    contenders = {c.name: c for c in [*dense, *sparse["mga"], *sparse["mga-light"]]}
    timings, peak = bench.time_beside_peak({n: c.run for n, c in contenders.items()}, rounds=5)
    ours = _fastest([c for c in sparse["mga"] if c.k == case.k], timings)
    if timings[ours.name].median < 1:
        smoke(benchmark, ours.run, timings[ours.name])
    facts = {"family": case.family, "height": case.height, "width": case.width, "k": case.k}
    bench.report.record("mga_families", {**facts, "peak_gflops": peak}, timings)
    for form in sparse.values():
        _report(bench, case, dense, form, timings, peak)


def _verify_dense(bench: Bench, dense: list[Contender]) -> None:
    """Every layout and engine of a form against the first one, which is torch."""
    for form in {c.form for c in dense}:
        first, *others = (c for c in dense if c.form == form)
        want = first.run()
        for other in others:
            verify(other.name, other.run(), want, 5e-3 if bench.dtype == torch.float32 else 0.1)


def _verify_sparse(bench: Bench, net: Any, lr: torch.Tensor, sparse: list[Contender]) -> None:
    """Ours against the reference ops and torch's layers."""
    rows, cols = patch_grid(lr.shape[2], lr.shape[3], net.patch_size)
    # Scores that differ in the last bit may swap the last patch in for the first one out.
    exact = bench.dtype == torch.float32
    found = {}
    atol, outliers = (5e-3 if exact else 0.1), (4 / (rows * cols) if exact else 0.02)
    for contender in sparse:
        if contender.k not in found:
            with use_backend("reference"), executor("off"):
                found[contender.k] = net(lr, k=contender.k)
        verify(contender.name, contender.run(), found[contender.k], atol, outliers)


def _fastest(among: list[Contender], timings: dict[str, Timing]) -> Contender:
    return min(among, key=lambda c: timings[c.name].median)


def _report(
    bench: Bench,
    case: FamilyCase,
    dense: list[Contender],
    sparse: list[Contender],
    timings: dict[str, Timing],
    peak: float,
) -> None:
    ours = _fastest([c for c in sparse if c.k == case.k], timings)
    rivals = {
        "lean": [c for c in dense if c.form == "dnet lean" and c.engine == "torch"],
        "published": [c for c in dense if c.form == "dnet published"],
        "OpenVINO": [c for c in dense if c.engine == "OpenVINO"],
        "own": [c for c in dense if c.ours],
    }
    seconds = timings[ours.name].median
    rows, cols = patch_grid(case.height, case.width, 4)
    row = {
        "family": case.family,
        "form": ours.form,
        "LR": f"{case.width}x{case.height}",
        "K": str(case.k),
        "cover": f"{100 * case.k / (rows * cols):.0f}%",
        "mga ms": f"{1e3 * seconds:.1f}",
        "layout": ours.layout,
        "spread": f"{100 * timings[ours.name].spread:.0f}%",
    }
    table = bench.report.table("mga_families", TITLE)
    points = [(c.k or 0, timings[c.name].median) for c in sparse if c.layout == ours.layout]
    kept = {}
    for name, among in rivals.items():
        if not among:
            continue
        rival = _fastest(among, timings)
        if name in ("lean", "own"):
            of = (rival.engine, timings[rival.name].median)
            where = f"{case.family} {ours.form} {row['LR']} {ours.layout}"
            table.notes.append(break_even(where, points, of, rows * cols))
        gain, ceiling = timings[rival.name].median / seconds, rival.macs / ours.macs
        kept[name] = gain / ceiling
        row |= {
            f"{name} ms": f"{1e3 * timings[rival.name].median:.1f}",
            f"vs {name}": f"{gain:.2f}x",
        }
        if name == "OpenVINO":  # the same multiply-adds as lean
            continue
        row |= {
            f"MACs {name}": f"{ceiling:.2f}x",
            f"kept {name}": f"{100 * gain / ceiling:.0f}%",
        }
    row["floor ms"] = f"{2e3 * ours.useful / peak / 1e9:.1f}"
    if case.family != "fsrcnn":
        least = min(kept["lean"], kept["published"])
        row["goals"] = f"both kept >={100 * GOAL:.0f}% {met(least, GOAL)}"
    table.rows.append(row)
