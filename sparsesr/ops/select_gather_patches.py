"""``select_gather_patches``: mask -> top-K -> patches in one call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._checks import check_grid, check_int, check_k, check_map, check_stride
from ._layout import empty_like_format
from ._library import define, define_autograd
from .select_patches import ordered_scores


def select_gather_patches(
    mask: Tensor,  # [B, Gh, Gw]
    x: Tensor,  # [B, C, H, W]
    k: int,
    patch_size: int,
    halo: int = 0,
    stride: int | None = None,
    order: str = "largest",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """``select_patches`` and ``gather_patches`` as one call, with no synchronisation between.

    Args:
        mask: scores [B, Gh, Gw] on the patch grid of ``x``.
        x: map [B, C, H, W] on the device of ``mask``.
        k: patches per image, 0 <= k <= Gh*Gw.
        patch_size, halo, stride: as in ``gather_patches``.
        order, generator: as in ``select_patches``.

    Returns:
        ``(patches [B*k, C, p+2h, p+2h], index [B, k] int32)``; patches are differentiable in ``x``.

    Raises:
        TypeError, ValueError: as the two ops; ValueError when mask and grid differ.

    Example:
        >>> patches, index = select_gather_patches(
        ...     torch.tensor([[[0.0, 1.0]]]), torch.ones(1, 3, 4, 8), k=1, patch_size=4, halo=1)
        >>> patches.shape, index
        (torch.Size([1, 3, 6, 6]), tensor([[1]], dtype=torch.int32))
    """
    op = "select_gather_patches"
    check_map(op, "mask", mask, "[B,Gh,Gw]")
    check_map(op, "x", x)
    if mask.device != x.device:
        raise TypeError(f"{op}: expected mask and x on one device, got {mask.device}, {x.device}")
    patch_size = check_int(op, "patch_size", patch_size, 1)
    halo = check_int(op, "halo", halo, 0)
    stride = check_stride(op, stride, patch_size)
    check_grid(op, mask, x, patch_size, stride)
    k = check_k(op, k, mask.shape[1] * mask.shape[2])
    mask, largest = ordered_scores(op, mask, order, generator)
    return torch.ops.sparsesr.select_gather_patches.default(
        mask, x, k, patch_size, halo, stride, largest
    )


def _fake(
    mask: Tensor, x: Tensor, k: int, patch_size: int, halo: int, stride: int, largest: bool = True
) -> tuple[Tensor, Tensor]:
    side = patch_size + 2 * halo
    index = mask.new_empty((mask.shape[0], k), dtype=torch.int32)
    return empty_like_format((x.shape[0] * k, x.shape[1], side, side), x), index


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, x, _, *window, _ = inputs
    ctx.window = window
    ctx.size = x.shape[2:]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Any, ...]:
    (index,) = ctx.saved_tensors
    grad_x = torch.ops.sparsesr.gather_patches_backward.default(grad, index, *ctx.size, *ctx.window)
    return None, grad_x, None, None, None, None, None


define(
    "select_gather_patches(Tensor mask, Tensor x, SymInt k, SymInt patch_size, SymInt halo,"
    " SymInt stride, bool largest=True) -> (Tensor, Tensor)",
    _fake,
)
define_autograd("select_gather_patches", _backward, _setup)
