"""Timing of several contenders in one run: verified first, then round-robin, medians.

A shared machine changes speed while it is being measured. Contenders that take turns see the same
weather, so the ratio of their medians holds where two separate timings would not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from torch import Tensor

LONG = 0.02
VERY_LONG, FEW_ROUNDS = 2.0, 3
Call = Callable[[], object]

CLOCKS: dict[str, Callable[[], float]] = {"cpu": time.process_time, "wall": time.perf_counter}


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median, quartiles and minimum over the rounds."""

    median: float
    lower: float
    upper: float
    minimum: float
    rounds: int
    calls: int  # calls per round; a round's sample is their mean
    graphed: bool = False  # replayed from a CUDA graph

    @property
    def spread(self) -> float:
        """Interquartile range relative to the median."""
        return (self.upper - self.lower) / self.median if self.median else 0.0

    def as_dict(self) -> dict[str, float]:
        """For the raw rows of a results file."""
        return asdict(self)


def pick_clock(name: str, threads: int) -> str:
    """`auto`: CPU time of the process for one thread (immune to neighbours), else wall time."""
    if name == "auto":
        return "cpu" if threads == 1 else "wall"
    return name


def interleave(
    contenders: Mapping[str, Call],
    rounds: int = 15,
    block: float = 2e-3,
    clock: str = "cpu",
) -> dict[str, Timing]:
    """Time the contenders in turn, `rounds` times, and take medians.

    A turn is one untimed call, so that each meets warm caches, and as many timed ones as fill
    `block` seconds. Calls of more than `LONG` seconds are not warmed: what a cache keeps from the
    call before is nothing to them. Every round starts with another contender. Where one takes
    more than `VERY_LONG` seconds, `FEW_ROUNDS` rounds are enough.

    Args:
        contenders: name -> function to time; all are called up to three times beforehand.
        rounds: samples per contender, >= 1.
        block: seconds a sample should last.
        clock: "cpu" (CPU time of the whole process, other threads of an engine included) or "wall".

    Raises:
        ValueError: no contenders, no rounds, or an unknown clock.

    Example:
        >>> sorted(interleave({"a": lambda: 1, "b": lambda: 2}, rounds=1, block=1e-5))
        ['a', 'b']
    """
    if not contenders or rounds < 1:
        raise ValueError(f"interleave: expected contenders and rounds >= 1, got {rounds} rounds")
    if clock not in CLOCKS:
        raise ValueError(f"interleave: expected clock 'cpu' or 'wall', got {clock!r}")
    now = CLOCKS[clock]
    names = list(contenders)
    cost = {name: _seconds(contenders[name]) for name in names}
    if max(cost.values()) > VERY_LONG:
        rounds = min(rounds, FEW_ROUNDS)
    calls = {name: max(1, round(block / cost[name])) for name in names}
    samples: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            if cost[name] < LONG:
                contenders[name]()
            samples[name].append(_sample(contenders[name], calls[name], now))
    return {name: timing_of(samples[name], calls[name]) for name in names}


def _sample(call: Call, calls: int, now: Callable[[], float]) -> float:
    begin = now()
    for _ in range(calls):
        call()
    return (now() - begin) / calls


def _seconds(call: Call) -> float:
    """About what a call costs: the better of two after a first one, unless that was a long one."""
    first = _sample(call, 1, time.perf_counter)
    if first > VERY_LONG:
        return first
    return max(1e-7, min(_sample(call, 1, time.perf_counter) for _ in range(2)))


def timing_of(samples: list[float], calls: int, graphed: bool = False) -> Timing:
    """Median, quartiles and minimum of samples in seconds."""
    median = statistics.median(samples)
    if len(samples) == 1:
        return Timing(median, median, median, median, 1, calls, graphed)
    lower, _, upper = statistics.quantiles(samples, n=4, method="inclusive")
    return Timing(median, lower, upper, min(samples), len(samples), calls, graphed)


def verify(name: str, got: Tensor, want: Tensor, atol: float = 0.0, outliers: float = 0.0) -> None:
    """Stop the bench when a contender is wrong; nothing wrong is ever timed.

    Args:
        name: contender, for the message.
        got, want: same shape; layout does not matter.
        atol: largest difference allowed; 0 demands equality.
        outliers: fraction of elements allowed to differ more, for a patch at the edge of the
            top K that another summation order swaps for its neighbour.

    Raises:
        AssertionError: shapes or values differ.
    """
    assert got.shape == want.shape, f"{name}: shape {tuple(got.shape)}, not {tuple(want.shape)}"
    if got.numel() == 0:
        return
    difference = (got.double() - want.double()).abs()
    wrong = (~(difference <= atol)).double().mean().item()
    worst = difference.max().item()
    assert wrong <= outliers, (
        f"{name}: {100 * wrong:.3g} % of the values differ by more than {atol:g} (worst {worst:g})"
    )
