"""``run_program``: a whole network, or a part of one, over a map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._checks import check_index, check_int, check_map, check_same
from ._layout import empty_like_format
from ._library import define
from ._program import Shape, parse_program, value_shapes
from ._recompute import define_recomputed_autograd
from .reference import run_program as _formula


def run_program(
    x: Tensor,  # [N, C, H, W]
    weights: Sequence[Tensor],
    program: str,
    covered: Tensor | None = None,  # [N, k]
    patch_size: int = 1,
) -> Tensor:
    """The result of a program (``sparsesr.ops.PROGRAMS`` tells what that is) for the map ``x``.

    Differentiable in ``x`` and ``weights``, by running the steps again in plain torch.

    Args:
        x: map [N, C, H, W], float32, bfloat16, float16 or float64; NCHW or channels_last.
        weights: the parameters that the program names, dtype and device of ``x``.
        program: its text.
        covered: patches [N, k] int32 of the grid on ``x`` that will be written over: their pixels
            of the result are unspecified, and need not be computed.
        patch_size: side of these patches in pixels of ``x``, >= 1.

    Returns:
        [N, C', H', W'] in the memory format of ``x``.

    Raises:
        TypeError: a wrong type, dtype or device.
        ValueError: not a program, too few parameters, a step that does not fit what it reads, or
            (on the CPU) an index outside the grid.

    Example:
        >>> text = "v1 = conv v0 weight=0 pad=1 act=relu\\nreturn v1"
        >>> run_program(torch.ones(1, 1, 2, 2), [torch.ones(1, 1, 3, 3)], text)
        tensor([[[[4., 4.],
                  [4., 4.]]]])
    """
    check_map("run_program", "x", x, "[N,C,H,W]")
    weights = check_program(
        "run_program", x, weights, program, (x.shape[1], x.shape[2], x.shape[3])
    )
    if covered is not None:
        check_index("run_program", covered, x, x.shape[0], "covered")
    patch_size = check_int("run_program", "patch_size", patch_size, 1)
    return torch.ops.sparsesr.run_program.default(x, weights, program, covered, patch_size)


def check_program(
    op: str, x: Tensor, weights: Sequence[Tensor], program: object, shape: Shape
) -> list[Tensor]:
    """The parameters as a list, after a look at whether the program takes a map of ``shape``.

    Under ``torch.compile``, which cannot trace the parser, the op's shape function looks.
    """
    if not isinstance(program, str):
        raise TypeError(f"{op}: expected program as a str, got {type(program).__name__}")
    weights = list(weights)
    for i, weight in enumerate(weights):
        if not isinstance(weight, Tensor):
            raise TypeError(f"{op}: expected weights[{i}] as a tensor, got {type(weight).__name__}")
        check_same(op, f"weights[{i}]", weight, "the map", x)
    if not torch.compiler.is_compiling():
        result_shape(op, weights, program, shape)
    return weights


def result_shape(op: str, weights: Sequence[Tensor], program: str, shape: Shape) -> Shape:
    """Channels, height and width of the result for a map of ``shape``.

    Raises:
        ValueError: not a program, too few parameters, or a step that does not fit what it reads.
    """
    parsed = parse_program(program)
    if parsed.parameters() > len(weights):
        raise ValueError(
            f"{op}: expected {parsed.parameters()} weights for this program, got {len(weights)}"
        )
    return value_shapes(parsed, [tuple(w.shape) for w in weights], shape)[parsed.result]


def _fake(
    x: Tensor, weights: list[Tensor], program: str, covered: Tensor | None, patch_size: int
) -> Tensor:
    shape = (x.shape[1], x.shape[2], x.shape[3])
    made = result_shape("run_program", weights, program, shape)
    return empty_like_format((x.shape[0], *made), x)


define(
    "run_program(Tensor x, Tensor[] weights, str program, Tensor? covered, SymInt patch_size)"
    " -> Tensor",
    _fake,
)
define_recomputed_autograd("run_program", _formula)
