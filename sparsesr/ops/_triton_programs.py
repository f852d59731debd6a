"""Programs on patches, of the ``triton`` backend: the steps one by one on the batch of patches.

Convolutions are launches of ``kernels/refine_patches.py``, with all that may follow a sum. The
first ones take their windows straight from the feature map, a pixel shuffle is a matter of where
the convolution before it stores, and the last launch stores into the canvas. Steps between that
only move or scale values are torch's.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ._gpu_packing import kept
from ._program import CONVOLUTIONS, Program, Shape, Step, parse_program, value_shapes
from ._subpixel import subpixel_reach, subpixel_weight
from .reference._windows import check_index_distinct
from .reference.run_program import activate, compute

_OP = "refine_patches_"


@dataclass(frozen=True)
class _Launch:
    """A step, and the shuffle that goes with it; ``made`` is the value of the last of them.

    Attributes:
        step: a convolution, or what torch computes. shuffle: behind the convolution.
        made: number of the value.
        window, sums, shape: sizes of what is read, of the convolution's sums, of the value.
        dies: values that nothing reads later.
    """

    step: Step
    shuffle: Step | None
    made: int
    window: Shape
    sums: Shape
    shape: Shape
    dies: tuple[int, ...]

    @property
    def is_conv(self) -> bool:
        return self.step.kind in CONVOLUTIONS


@dataclass(frozen=True)
class _Plan:
    """Launches in order; whether all that read the patches can gather, and the last can scatter."""

    launches: tuple[_Launch, ...]
    result: int
    shape: Shape
    gathers: bool
    scatters: bool


def refine_patches_(
    canvas: Tensor,  # [B, O, s*H, s*W], written
    feature: Tensor,  # [B, C, H, W]
    index: Tensor,  # [B, k] int32
    weights: Sequence[Tensor],
    program: str,
    patch_size: int,
    halo: int,
) -> None:
    """Windows of ``feature`` through the program, into the canvas where they lie; float32 sums."""
    if index.numel() == 0:
        return
    backend = _backend()
    grid = backend._grid(index, feature.shape[2], feature.shape[3], patch_size, patch_size)
    check_index_distinct(index)
    side = patch_size + 2 * halo
    plan = _plan(program, tuple(tuple(w.shape) for w in weights), (feature.shape[1], side, side))
    with backend._on(feature):
        launch = backend._kernels("refine_patches")
        weights = [w.detach() for w in weights]
        packed = _packed(launch, plan, program, weights)
        places = launch.Places(index, grid, patch_size, halo)
        values: dict[int, Tensor] = {}
        if not plan.gathers:
            values[0] = _empty(feature, index.numel(), (feature.shape[1], side, side))
            gather = backend._kernels("gather_patches").gather_patches
            gather(feature, index, values[0], halo, patch_size, grid)
        for planned, filters in zip(plan.launches, packed, strict=True):
            reads = [values.get(v, feature) for v in planned.step.inputs]
            if filters is None:
                values[planned.made] = _plain(planned.step, reads, weights)
            else:
                scatters = plan.scatters and planned.made == plan.result
                out = canvas if scatters else _empty(feature, index.numel(), planned.shape)
                gathers = planned.step.inputs[0] not in values
                launch.refine_patches_conv(
                    reads[0],
                    filters,
                    out,
                    _geometry(launch, planned, weights),
                    _epilogue(launch, planned.step, weights, values),
                    places,
                    gathers,
                    scatters,
                )
                values[planned.made] = out
            for v in planned.dies:
                values.pop(v, None)
    if not plan.scatters:
        result, edge = values[plan.result], plan.shape[1]
        backend.scatter_patches_(canvas, result, index, edge, edge, "replace")


@lru_cache(maxsize=256)
def _plan(program: str, weights: tuple[tuple[int, ...], ...], shape: Shape) -> _Plan:
    parsed = parse_program(program)
    shapes = value_shapes(parsed, weights, shape)
    steps = parsed.steps[: parsed.result]  # later ones make what nobody asked for
    parsed = Program(steps, parsed.result)
    last = parsed.last_uses()
    launches: list[_Launch] = []
    for i, step in enumerate(steps):
        if i > 0 and _shuffle_of(parsed, i - 1) is step:
            continue
        shuffle = _shuffle_of(parsed, i)
        made = i + 1 if shuffle is None else i + 2
        dies = tuple(v for v in set(step.reads) if last[v] == i)
        window = shapes[step.inputs[0]]
        launches.append(_Launch(step, shuffle, made, window, shapes[i + 1], shapes[made], dies))
    own = [step for step in steps if 0 in step.reads]
    gathers = parsed.result > 0 and all(_takes_windows(step) for step in own)
    result = launches[-1] if launches else None
    scatters = result is not None and result.is_conv
    return _Plan(tuple(launches), parsed.result, shapes[parsed.result], gathers, scatters)


def _shuffle_of(program: Program, i: int) -> Step | None:
    """The shuffle behind step i, where it only changes the place of what the step stores."""
    step = program.steps[i]
    if step.kind != "conv" or step.add is not None or step.mul is not None:
        return None
    readers = [j for j, later in enumerate(program.steps) if i + 1 in later.reads]
    if readers != [i + 1] or program.steps[i + 1].kind != "shuffle":
        return None
    return program.steps[i + 1]


def _takes_windows(step: Step) -> bool:
    return step.kind in CONVOLUTIONS and 0 not in (step.add, step.mul)


def _geometry(launch: Any, planned: _Launch, weights: Sequence[Tensor]) -> Any:
    step, shuffle = planned.step, planned.shuffle
    kernel = weights[step["weight"]].shape[2]
    window = planned.window[1:]
    if step.kind == "conv":
        own = (kernel, step["stride"], step["pad"], step["groups"])
        if shuffle is None:
            return launch.Geometry(window, planned.sums[1:], *own)
        order = (shuffle["factor"], shuffle.order == "tf")
        return launch.Geometry(window, planned.sums[1:], *own, *order)
    before, after = subpixel_reach(kernel, step["stride"], step["pad"])
    own = (before + after + 1, 1, before, 1)
    return launch.Geometry(window, window, *own, step["stride"], False, transposed=True)


def _epilogue(launch: Any, step: Step, weights: Sequence[Tensor], values: dict[int, Tensor]) -> Any:
    bias = weights[step["bias"]].contiguous() if "bias" in step.numbers else None
    added, factors = (None if v is None else _pixels(values[v]) for v in (step.add, step.mul))
    if step.act is None:
        return launch.Epilogue(bias, added, factors=factors)
    slopes = weights[step.act.parameter].contiguous() if step.act.kind == "prelu" else None
    return launch.Epilogue(bias, added, step.act.kind, step.act.slope, slopes, factors)


def _plain(step: Step, reads: list[Tensor], weights: Sequence[Tensor]) -> Tensor:
    made = compute(step, reads, weights)
    return made if step.act is None else activate(made, step.act, weights)


def _packed(
    launch: Any, plan: _Plan, program: str, weights: Sequence[Tensor]
) -> list[Tensor | None]:
    """The filters of every launch, None of those that are torch's."""
    named = [weights[planned.step["weight"]] for planned in plan.launches if planned.is_conv]
    if not named:
        return [None] * len(plan.launches)

    def pack() -> list[Tensor | None]:
        return [_filters(launch, planned.step, weights) for planned in plan.launches]

    return kept(f"{_OP} triton {program}", named, None, pack)


def _filters(launch: Any, step: Step, weights: Sequence[Tensor]) -> Tensor | None:
    if step.kind not in CONVOLUTIONS:
        return None
    weight = weights[step["weight"]]
    if step.kind == "deconv":
        weight = subpixel_weight(weight, step["stride"], step["pad"])
    filters: Tensor = launch.pack(weight)
    return filters


def _empty(like: Tensor, slots: int, shape: Shape) -> Tensor:
    return torch.empty(
        (slots, *shape), dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


def _pixels(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _backend() -> Any:
    """The backend's module, which imports this one."""
    return importlib.import_module("sparsesr.ops._triton")
