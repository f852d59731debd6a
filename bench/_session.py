"""What every bench works with: the session's options, its clock and its report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import _peak
import torch
from _gpu import interleave_gpu
from _protocol import Call, Timing, interleave
from _report import Report

import sparsesr
from sparsesr import use_backend

Result = TypeVar("Result")


@dataclass
class Bench:
    """Handed to every bench as the fixture `bench`.

    Attributes:
        quick: tiny sizes and few rounds.
        compile: torch.compile'd contenders wanted.
        threads: threads of torch and of the kernels.
        rounds: samples per contender, None to leave it to the bench.
        clock: "cpu", "wall" or "gpu".
        report: where rows go.
        device, dtype: torch's defaults during the session.
    """

    quick: bool
    compile: bool
    threads: int
    rounds: int | None
    clock: str
    report: Report
    device: torch.device
    dtype: torch.dtype

    @property
    def gpu(self) -> bool:
        """Whether the benches run on a GPU."""
        return self.device.type == "cuda"

    def backends(self) -> list[str]:
        """The backends that get rows of their own beside `op`, the automatic choice."""
        present = [b.name for b in sparsesr.backends() if b.available]
        wanted = ("cuda", "triton", "reference") if self.gpu else ("reference",)
        return [name for name in wanted if name in present]

    def own(self, kernel: str) -> tuple[str, ...]:
        """The contenders that are our own beside `op`: backends on a GPU, else the bare kernel."""
        return ("cuda", "triton") if self.gpu else (kernel,)

    def time(self, contenders: dict[str, Call], rounds: int = 15) -> dict[str, Timing]:
        """Interleaved timings of verified contenders; --rounds and --quick overrule `rounds`."""
        block = 2e-4 if self.quick else 4e-3
        rounds = self.rounds or (3 if self.quick else rounds)
        if self.gpu:
            return interleave_gpu(contenders, 2 * rounds)
        return interleave(contenders, rounds, block, self.clock)

    def time_beside_peak(
        self, contenders: dict[str, Call], rounds: int = 15
    ) -> tuple[dict[str, Timing], float]:
        """Interleaved timings, and GFLOP/s of the FMA peak, which took turns with them.

        On a GPU, and on a CPU without such a loop, the convolution of `peak` stands in for it.
        """
        loop = None if self.gpu else _peak.peak_loop(self.dtype)
        if loop is None:
            return self.time(contenders, rounds), self.peak()
        call, operations = loop
        timings = self.time({**contenders, _peak.NAME: call}, rounds)
        gflops = _peak.peak_gflops(timings, operations, self.threads)
        del timings[_peak.NAME]
        return timings, gflops

    def peak(self) -> float:
        """GFLOP/s of the convolution that stands in for the FMA peak, measured once a session."""
        facts = self.report.facts
        name = f"conv{self._probe_channels}_gflops"
        if name not in facts:
            facts[name] = round(self._conv_gflops(), 1)
        return float(facts[name])

    @property
    def _probe_channels(self) -> int:
        return 256 if self.gpu else 64

    def _conv_gflops(self) -> float:
        """torch's own 3x3 convolution, channels_last: on a CPU oneDNN reaches 95 % of the peak."""
        channels, side = self._probe_channels, 64 if self.quick else 256
        layout = torch.channels_last
        x = torch.randn(1, channels, side, side).contiguous(memory_format=layout)
        conv = torch.nn.Conv2d(channels, channels, 3, padding=1).to(memory_format=layout)
        timing = self.time({"conv": lambda: conv(x)}, rounds=9)["conv"]
        return 2 * channels * channels * 9 * side**2 / timing.minimum / 1e9


def under(backend: str, call: Callable[[], Result]) -> Callable[[], Result]:
    """The same call on one backend."""

    def run() -> Result:
        with use_backend(backend):
            return call()

    return run


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

    def finished() -> None:
        call()
        torch.cuda.synchronize()

    on_gpu = torch.get_default_device().type == "cuda"
    run = finished if on_gpu else call
    benchmark.pedantic(run, rounds=3, iterations=timing.calls, warmup_rounds=1)
