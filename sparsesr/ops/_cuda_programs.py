"""Programs on patches of the ``cuda`` backend: planned once, packed once, run in one launch.

``csrc/cuda/program_plan.cpp`` decides what lies where in a block's shared memory and in which order
the kernel reads the weights; that order is a list of their elements, applied here by torch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._backend import requested_backend
from . import reference
from ._gpu_packing import kept
from ._module import _DTYPES, _loaded, _view
from ._program import Shape, Step, parse_program, value_shapes

log = logging.getLogger("sparsesr")

_OP = "refine_patches_"
_Shapes = tuple[tuple[int, ...], ...]


class _Plan(NamedTuple):
    """What the native module makes of a program; ``table`` and the elements are on the device.

    Elements count from 1 on: 0 is a zero.
    """

    obstacle: str | None
    host_table: Tensor
    table: Tensor
    orders: list[Tensor]
    weights: list[tuple[int, int]]  # parameter, and which order its elements have
    vectors: list[tuple[int, Tensor]]  # parameter, elements
    num_weights: int


def patch_program_obstacle(
    program: str,
    weight_shapes: Sequence[Sequence[int]],
    shape: Shape,
    dtype: torch.dtype,
    shared_bytes: int | None = None,
) -> str | None:
    """Why the kernel of ``refine_patches_`` cannot run a program on windows, or None when it can.

    Args:
        program: its text, and the shapes of its parameters.
        weight_shapes: of all parameters.
        shape: channels, height and width of a window.
        dtype: of maps and parameters.
        shared_bytes: shared memory that a block may have for values; by default what the current
            GPU has.
    """
    shapes = tuple(tuple(s) for s in weight_shapes)
    obstacle: str | None = _planned(program, shapes, shape, dtype, shared_bytes)["obstacle"]
    return obstacle


def refine_patches_(
    canvas: Tensor,  # [B, O, s*H, s*W], written
    feature: Tensor,  # [B, C, H, W]
    index: Tensor,  # [B, k] int32
    weights: Sequence[Tensor],
    program: str,
    patch_size: int,
    halo: int,
) -> None:
    """Windows of ``feature`` through the program, into the canvas; sums are float32.

    16-bit values are rounded between steps. Under ``auto`` a program that the kernel cannot run is
    run step by step.

    Raises:
        NotImplementedError: a program that the kernel cannot run.
        RuntimeError: inside a CUDA graph, when this program was not run before.
    """
    side = patch_size + 2 * halo
    shapes = tuple(tuple(w.shape) for w in weights)
    with torch.cuda.device(feature.device):
        shape = (feature.shape[1], side, side)
        plan = _plan(program, shapes, shape, feature.dtype, feature.device)
        if plan.obstacle is not None:
            if requested_backend() != "auto":
                raise NotImplementedError(_cannot(plan.obstacle))
            _say_once(plan.obstacle)
            return reference.refine_patches_(
                canvas, feature, index, weights, program, patch_size, halo
            )
        packed = _packed(plan, weights, f"{_OP} {shape} {program}", feature)
        index = index.contiguous()
        split = plan.num_weights * feature.element_size() // 4
        operands = {
            "canvas": canvas,
            "feature": feature,
            "index": index,
            "table": plan.table,
            "weights": packed[:split].view(feature.dtype),
            "vectors": packed[split:].view(torch.float32),
        }
        views = [_view(_OP, name, tensor, feature.device) for name, tensor in operands.items()]
        views.insert(3, _view(_OP, "plan", plan.host_table))
        stream = torch.cuda.current_stream(feature.device).cuda_stream
        _loaded().cuda.refine_patches(*views, patch_size, halo, 0, stream)


def _cannot(obstacle: str) -> str:
    return f"{_OP}: the CUDA kernel cannot run this program: {obstacle}; use 'auto' or 'reference'"


@cache
def _say_once(obstacle: str) -> None:
    log.info("%s runs step by step in plain torch: %s", _OP, obstacle)


def _planned(
    program: str,
    shapes: _Shapes,
    shape: Shape,
    dtype: torch.dtype,
    shared_bytes: int | None,
) -> dict[str, Any]:
    parsed = parse_program(program)
    steps = [_step_tuple(step) for step in parsed.steps]
    values = value_shapes(parsed, shapes, shape)
    made: dict[str, Any] = _loaded().cuda.plan_patch_program(
        steps,
        parsed.result,
        [list(s) for s in shapes],
        [list(v) for v in values],
        _DTYPES[dtype],
        shared_bytes,
    )
    return made


def _step_tuple(step: Step) -> tuple[Any, ...]:
    act = ("", 0.0, -1)
    if step.act is not None:
        act = (step.act.kind, step.act.slope, step.act.parameter)
    add, mul = (-1 if value is None else value for value in (step.add, step.mul))
    return step.kind, list(step.inputs), step.numbers, act, step.order == "tf", add, mul


@lru_cache(maxsize=64)
def _plan(
    program: str, shapes: _Shapes, shape: Shape, dtype: torch.dtype, device: torch.device
) -> _Plan:
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"{_OP}: expected a program that was run before the capture of a CUDA graph, got a new "
            "one (its tables are copied to the GPU once); call the op once beforehand"
        )
    made = _planned(program, shapes, shape, dtype, None)
    table = _words(made["table"])
    # Copies that are waited for: whatever stream comes next finds them.
    return _Plan(
        made["obstacle"],
        table,
        table.to(device),
        [(_words(order) + 1).to(device) for order in made["orders"]],
        made["weights"],
        [(parameter, (_words(e) + 1).to(device)) for parameter, e in made["vectors"]],
        made["num_weights"],
    )


def _words(text: bytes) -> Tensor:
    """[n] int32."""
    if not text:
        return torch.empty(0, dtype=torch.int32)
    return torch.frombuffer(bytearray(text), dtype=torch.int32)


def _packed(plan: _Plan, weights: Sequence[Tensor], key: str, like: Tensor) -> Tensor:
    """All weights, then biases and slopes as float32: [n] int32."""

    def pack() -> Tensor:
        flat = [torch.cat((w.new_zeros(1), w.detach().reshape(-1))) for w in weights]
        parts = [flat[p].index_select(0, plan.orders[order]) for p, order in plan.weights]
        rest = plan.num_weights - sum(part.numel() for part in parts)
        own = torch.cat([*parts, like.new_zeros(rest)])
        floats = [flat[p].index_select(0, elements).float() for p, elements in plan.vectors]
        return torch.cat([own.view(torch.int32), *(f.view(torch.int32) for f in floats)])

    return kept(key, weights, None, pack) if weights else pack()
