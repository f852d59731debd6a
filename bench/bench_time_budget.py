"""Time budgets: does a call take the time that was asked for?"""

from __future__ import annotations

import dataclasses
import os
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from _protocol import timing_of, verify
from _session import Bench, met

import sparsesr
from sparsesr.inference import Upscaler
from sparsesr.inference.time_budget import TimeBudget, in_words

TITLE = """time_budget: `Upscaler(net, time_budget=...)` on one image, for budgets between the
coarse and the full cost. took: median of 5 calls; error: of the median; k: of the last call."""

ASKED = (0.15, 0.4, 0.65, 0.9)  # of the way from the coarse to the full cost
CALLS = 5
GOAL = 0.15


@dataclasses.dataclass(frozen=True)
class Case:
    """A network and an LR image."""

    name: str
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.name}-{self.width}x{self.height}"


def cases(quick: bool, gpu: bool) -> list[Case]:
    """The networks and sizes that are timed."""
    if quick:
        return [Case("fsrcnn-mga-x2", 24, 32)]
    large = (540, 960) if gpu else (270, 480)
    return [
        Case("fsrcnn-mga-x4", *large),
        Case("fsrcnn-mga-light-x4", *large),
        Case("rfdn-mga-x4", 90, 160),
        Case("rfdn-mga-x4", *large),
    ]


def bench_time_budget(
    bench: Bench, case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One network: timed afresh, then several budgets, each by an upscaler of its own."""
    monkeypatch.setenv("SPARSESR_CACHE", str(tmp_path))  # neither read nor change the user's
    torch.manual_seed(0)
    net = sparsesr.create_model(case.name).eval()
    lr = torch.rand(1, 3, case.height, case.width)
    curve = TimeBudget(Upscaler(net), 1e6).curve(lr)
    coarse, full = curve.seconds[0], curve.seconds[-1]
    # A smoke run's times are too short to be kept on a busy machine.
    for share in (100.0,) if bench.quick else ASKED:
        asked = coarse + share * (full - coarse)
        upscaler = Upscaler(net, time_budget=asked)
        taken = []
        for _ in range(CALLS):
            sr = upscaler.run(lr)
            assert upscaler.picked is not None
            taken.append(upscaler.picked.took or 0.0)
        verify("budget", sr, Upscaler(net, **upscaler.picked.options).run(lr))
        _report(bench, case, (coarse, full), asked, taken, upscaler.picked.options)


def _report(
    bench: Bench,
    case: Case,
    ends: tuple[float, float],
    asked: float,
    taken: list[float],
    options: dict[str, Any],
) -> None:
    facts = {**dataclasses.asdict(case), "asked": asked, **options, "load": os.getloadavg()[0]}
    bench.report.record("time_budget", facts, {"budget": timing_of(taken, 1)})
    took = statistics.median(taken)
    error = took / asked - 1
    bench.report.table("time_budget", TITLE).rows.append(
        {
            "network": case.name,
            "LR": f"{case.width}x{case.height}",
            "coarse": in_words(ends[0]),
            "full": in_words(ends[1]),
            "asked": in_words(asked),
            "k": str(options["k"]),
            "took": in_words(took),
            "error": f"{100 * error:+.1f}%",
            "goal": f"<=15% {met(GOAL - abs(error), 0)}",
        }
    )
