"""The five MGA families x4 end to end: what of each MAC ratio becomes time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from _networks import Contender, dense_contenders, forms, sparse_contenders
from _protocol import Timing, verify
from _session import Bench, met, smoke

from sparsesr import use_backend
from sparsesr.ops import patch_grid

TITLE = """MGA families x4, K patches, against their D-Net lean (only what its output needs) and as
published (coarse image too), each in the faster of NCHW and NHWC. vs: times faster, below 1 is a
loss. MACs: what equally efficient kernels would give (true multiply-adds). kept: their quotient."""
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
    sparse = [c for c in sparse_contenders(nets.mga, lr, (case.k,)) if c.engine == "sparsesr"]
    _verify(bench, nets.mga, lr, dense, sparse)
    contenders = {c.name: c for c in dense + sparse}
    timings = bench.time({name: c.run for name, c in contenders.items()}, rounds=5)
    ours = min(sparse, key=lambda c: timings[c.name].median)
    if timings[ours.name].median < 1:
        smoke(benchmark, ours.run, timings[ours.name])
    _report(bench, case, dense, sparse, timings)


def _verify(
    bench: Bench, mga: Any, lr: torch.Tensor, dense: list[Contender], sparse: list[Contender]
) -> None:
    """Every layout of a form against the first one; the sparse ones against the reference ops."""
    rows, cols = patch_grid(lr.shape[2], lr.shape[3], mga.patch_size)
    # Scores that differ in the last bit may swap the last patch in for the first one out.
    exact = bench.dtype == torch.float32
    atol, outliers = (5e-3 if exact else 0.1), (4 / (rows * cols) if exact else 0.02)
    for form in {c.form for c in dense}:
        first, *others = (c for c in dense if c.form == form)
        want = first.run()
        for other in others:
            verify(other.name, other.run(), want, atol)
    with use_backend("reference"):
        want = mga(lr, k=sparse[0].k)
    for contender in sparse:
        verify(contender.name, contender.run(), want, atol, outliers)


def _report(
    bench: Bench,
    case: FamilyCase,
    dense: list[Contender],
    sparse: list[Contender],
    timings: dict[str, Timing],
) -> None:
    facts = {"family": case.family, "height": case.height, "width": case.width, "k": case.k}
    bench.report.record("mga_families", facts, timings)

    def fastest(form: str, of: list[Contender]) -> Contender:
        return min((c for c in of if c.form == form), key=lambda c: timings[c.name].median)

    ours = fastest("mga", sparse)
    seconds = timings[ours.name].median
    rows, cols = patch_grid(case.height, case.width, 4)
    row = {
        "family": case.family,
        "LR": f"{case.width}x{case.height}",
        "K": str(case.k),
        "cover": f"{100 * case.k / (rows * cols):.0f}%",
        "mga ms": f"{1e3 * seconds:.1f}",
        "layout": ours.layout,
        "spread": f"{100 * timings[ours.name].spread:.0f}%",
    }
    kept = []
    for form in ("dnet lean", "dnet published"):
        rival, name = fastest(form, dense), form.removeprefix("dnet ")
        gain, ceiling = timings[rival.name].median / seconds, rival.macs / ours.macs
        kept.append(gain / ceiling)
        row |= {
            f"{name} ms": f"{1e3 * timings[rival.name].median:.1f}",
            f"vs {name}": f"{gain:.2f}x",
            f"MACs {name}": f"{ceiling:.2f}x",
            f"kept {name}": f"{100 * gain / ceiling:.0f}%",
        }
    row["floor ms"] = f"{2 * ours.macs / bench.peak() / 1e6:.1f}"
    if case.family != "fsrcnn":
        row["goals"] = f"both kept >={100 * GOAL:.0f}% {met(min(kept), GOAL)}"
    bench.report.table("mga_families", TITLE).rows.append(row)
