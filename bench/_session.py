"""What every bench works with: the session's options, its clock and its report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from _protocol import Call, Timing, conv_gflops, interleave
from _report import Report


@dataclass
class Bench:
    """Handed to every bench as the fixture `bench`.

    Attributes:
        quick: tiny sizes and few rounds.
        compile: torch.compile'd contenders wanted.
        threads: threads of torch and of the kernels.
        rounds: samples per contender, None to leave it to the bench.
        clock: "cpu" or "wall".
        report: where rows go.
    """

    quick: bool
    compile: bool
    threads: int
    rounds: int | None
    clock: str
    report: Report

    def time(self, contenders: dict[str, Call], rounds: int = 15) -> dict[str, Timing]:
        """Interleaved timings of verified contenders; --rounds and --quick overrule `rounds`."""
        block = 2e-4 if self.quick else 4e-3
        rounds = self.rounds or (3 if self.quick else rounds)
        return interleave(contenders, rounds, block, self.clock)

    def peak(self) -> float:
        """GFLOP/s of the convolution that stands in for the FMA peak, measured once a session."""
        facts = self.report.facts
        if "conv64_gflops" not in facts:
            facts["conv64_gflops"] = round(conv_gflops(self.quick), 1)
        return float(facts["conv64_gflops"])


def microseconds(timings: dict[str, Timing], names: tuple[str, ...]) -> dict[str, str]:
    """A table column per contender, "-" for those that did not run."""
    return {
        f"{name} us": f"{1e6 * timings[name].median:.1f}" if name in timings else "-"
        for name in names
    }


def gigabytes(timings: dict[str, Timing], names: tuple[str, ...], size: int) -> dict[str, str]:
    """A column of GB/s per contender that moves `size` bytes."""
    return {
        f"{name} GB/s": f"{size / timings[name].median / 1e9:.1f}" if name in timings else "-"
        for name in names
    }


def best(timings: dict[str, Timing], name: str, size: int) -> dict[str, str]:
    """A column with the GB/s of a contender's fastest round: what a quiet machine gives."""
    text = f"{size / timings[name].minimum / 1e9:.1f}" if name in timings else "-"
    return {f"{name} best": text}


def met(value: float, goal: float) -> str:
    """Whether a goal of at least `goal` was reached."""
    return "met" if value >= goal else "missed"


def rate(timings: dict[str, Timing], name: str, size: int) -> float:
    """GB/s of one contender, 0 where it did not run."""
    return size / timings[name].median / 1e9 if name in timings else 0.0


def smoke(benchmark: Any, call: Call, timing: Timing) -> None:
    """Let pytest-benchmark time our op too, for its own comparison of two commits."""
    benchmark.pedantic(call, rounds=3, iterations=timing.calls, warmup_rounds=1)
