"""Timing on a GPU: CUDA graphs between events, cold caches, contenders in turn."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from _protocol import Call, Timing, timing_of

_FLUSH_BYTES = 256 << 20  # several times the last-level cache of any GPU so far


@dataclass(frozen=True)
class _Runner:
    """A contender as it is timed: replayed from a graph where it could be captured."""

    run: Call
    graphed: bool


def interleave_gpu(contenders: Mapping[str, Call], rounds: int = 30) -> dict[str, Timing]:
    """Time the contenders in turn on the current GPU, and take medians.

    A sample is one call between two events on the stream, so it is time on the GPU. Before each,
    a buffer larger than the caches is overwritten: inputs come from memory, as they do for maps
    that are larger than the caches, and the launches of the call are queued meanwhile. Contenders
    are captured in a CUDA graph; those that cannot be (they wait for the device, or allocate in a
    way that capture forbids) run eagerly, host gaps included, and have ``graphed`` false.

    Args:
        contenders: name -> function to time, without arguments.
        rounds: samples per contender, >= 1.

    Returns:
        name -> seconds.
    """
    runners = {name: _runner(call) for name, call in contenders.items()}
    flush = torch.empty(_FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {n: [] for n in runners}
    names = list(runners)
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            flush.zero_()
            begin.record()
            runners[name].run()
            end.record()
            events[name].append((begin, end))
        torch.cuda.synchronize()
    return {
        name: timing_of([b.elapsed_time(e) / 1e3 for b, e in events[name]], 1, runner.graphed)
        for name, runner in runners.items()
    }


def eager_seconds(call: Call, calls: int = 50) -> float:
    """Wall time of a call as a user's loop sees it: launches queued one after another."""
    samples = []
    for _ in range(5):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        torch.cuda.synchronize()
        samples.append(begin.elapsed_time(end) / 1e3 / calls)
    return statistics.median(samples)


def _runner(call: Call) -> _Runner:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream):
            call()
    except RuntimeError:  # what capture forbids is an error of torch's or of CUDA's
        torch.cuda.synchronize()
        return _Runner(call, False)
    return _Runner(graph.replay, True)
