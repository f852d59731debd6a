"""Reference of ``gather_patches`` and its adjoint."""

from __future__ import annotations

import torch
from torch import Tensor

from .._layout import memory_format_of
from ._windows import accumulation_dtype, window_pixels


def gather_patches(
    x: Tensor,  # [B, C, H, W]
    index: Tensor,  # [B, k] int32
    patch_size: int,
    halo: int,
    stride: int,
) -> Tensor:
    """Windows [B*k, C, p+2h, p+2h] of ``x``; zero outside the map."""
    batch, channels, height, width = x.shape
    side = patch_size + 2 * halo
    pixel, inside = window_pixels(index, height, width, patch_size, halo, stride)
    flat = x.flatten(2).transpose(1, 2)  # [B, H*W, C]
    image = torch.arange(batch, device=x.device)[:, None]
    rows = flat[image, pixel.flatten(1)]  # [B, k*P*P, C]
    rows = rows.where(inside.flatten(1)[..., None], 0)
    patches = rows.reshape(index.numel(), side, side, channels).permute(0, 3, 1, 2)
    return patches.contiguous(memory_format=memory_format_of(x))


def gather_patches_backward(
    grad: Tensor,  # [B*k, C, P, P]
    index: Tensor,  # [B, k] int32
    height: int,
    width: int,
    patch_size: int,
    halo: int,
    stride: int,
) -> Tensor:
    """Adjoint of ``gather_patches``: [B, C, H, W], the sum of all windows that cover a pixel."""
    batch = index.shape[0]
    channels = grad.shape[1]
    pixel, inside = window_pixels(index, height, width, patch_size, halo, stride)
    dtype = accumulation_dtype(grad.dtype)
    rows = (
        grad.permute(0, 2, 3, 1).reshape(batch, pixel[0].numel(), channels).to(dtype)
    )  # [B, k*P*P, C]
    rows = rows.where(inside.flatten(1)[..., None], 0)
    total = torch.zeros(batch, height * width, channels, dtype=dtype, device=grad.device)
    where = pixel.reshape(batch, -1, 1).expand(-1, -1, channels)
    total = total.scatter_add(1, where, rows)
    grad_x = total.reshape(batch, height, width, channels).permute(0, 3, 1, 2).to(grad.dtype)
    return grad_x.contiguous(memory_format=memory_format_of(grad))
