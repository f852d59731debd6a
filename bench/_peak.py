"""The FMA peak of this core: a loop over registers that takes turns with the contenders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from _protocol import Call, Timing

from sparsesr.ops import _native

NAME = "fma peak"
_ITERATIONS = 5000  # about a millisecond: several bursts fit into one turn


def peak_loop(dtype: torch.dtype = torch.float32) -> tuple[Call, int] | None:
    """One burst on one thread and its floating-point operations; None where there is no such loop.

    Args:
        dtype: float32, or bfloat16 where the CPU multiplies pairs of them; others count as float32.
    """
    native: Any = _native._loaded().cpu
    pairs = dtype == torch.bfloat16 and native.fma_peak(1, True) > 0
    operations = native.fma_peak(_ITERATIONS, pairs)
    if operations == 0:
        return None
    return lambda: native.fma_peak(_ITERATIONS, pairs), operations


def peak_gflops(timings: Mapping[str, Timing], operations: int, threads: int) -> float:
    """GFLOP/s of the best turn, times the threads: they are taken to be as fast as this one."""
    return threads * operations / timings[NAME].minimum / 1e9
