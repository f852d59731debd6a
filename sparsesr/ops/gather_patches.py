"""``gather_patches``: the chosen windows of a map as one batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._checks import check_index, check_int, check_map, check_stride
from ._layout import empty_like_format
from ._library import define, define_autograd


def gather_patches(
    x: Tensor,  # [B, C, H, W]
    index: Tensor,  # [B, k]
    patch_size: int,
    halo: int = 0,
    stride: int | None = None,
) -> Tensor:
    """Windows of ``patch_size + 2 * halo`` pixels around the chosen patches; zero outside the map.

    ``out[b*k + j, c, u, v] = x[b, c, y + u - halo, x + v - halo]`` with (y, x) the corner of patch
    ``index[b, j]`` on the grid of ``patch_grid``. Differentiable in ``x``, twice.

    Args:
        x: map [B, C, H, W], float32, bfloat16, float16 or float64; NCHW or channels_last.
        index: patches [B, k] int32 in [0, Gh*Gw), as ``select_patches`` returns them.
        patch_size: side p of a patch in pixels, >= 1.
        halo: pixels h added on every side, >= 0.
        stride: distance between patches; ``patch_size`` by default.

    Returns:
        patches [B*k, C, p+2h, p+2h] in the memory format of ``x``.

    Raises:
        TypeError: a wrong type, dtype or device.
        ValueError: a wrong shape or size, or (on the CPU) an index outside the grid.

    Example:
        >>> x = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> gather_patches(x, torch.tensor([[3]], dtype=torch.int32), patch_size=2)
        tensor([[[[10., 11.],
                  [14., 15.]]]])
    """
    check_map("gather_patches", "x", x)
    check_index("gather_patches", index, x, x.shape[0])
    patch_size = check_int("gather_patches", "patch_size", patch_size, 1)
    halo = check_int("gather_patches", "halo", halo, 0)
    stride = check_stride("gather_patches", stride, patch_size)
    return torch.ops.sparsesr.gather_patches.default(x, index, patch_size, halo, stride)


def _fake(x: Tensor, index: Tensor, patch_size: int, halo: int, stride: int) -> Tensor:
    side = patch_size + 2 * halo
    return empty_like_format((index.shape[0] * index.shape[1], x.shape[1], side, side), x)


def _fake_backward(
    grad: Tensor, index: Tensor, height: int, width: int, patch_size: int, halo: int, stride: int
) -> Tensor:
    return empty_like_format((index.shape[0], grad.shape[1], height, width), grad)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, index, *ctx.window = inputs
    ctx.size = x.shape[2:]
    ctx.save_for_backward(index)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (index,) = ctx.saved_tensors
    grad_x = torch.ops.sparsesr.gather_patches_backward.default(grad, index, *ctx.size, *ctx.window)
    return grad_x, None, None, None, None


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, index, _, _, *ctx.window = inputs
    ctx.save_for_backward(index)


def _backward_backward(ctx: Any, grad_grad: Tensor) -> tuple[Any, ...]:
    (index,) = ctx.saved_tensors
    again = torch.ops.sparsesr.gather_patches.default(grad_grad, index, *ctx.window)
    return again, None, None, None, None, None, None


define(
    "gather_patches(Tensor x, Tensor index, SymInt patch_size, SymInt halo, SymInt stride)"
    " -> Tensor",
    _fake,
)
define(
    "gather_patches_backward(Tensor grad, Tensor index, SymInt height, SymInt width,"
    " SymInt patch_size, SymInt halo, SymInt stride) -> Tensor",
    _fake_backward,
)
define_autograd("gather_patches", _backward, _setup)
define_autograd("gather_patches_backward", _backward_backward, _setup_backward)
