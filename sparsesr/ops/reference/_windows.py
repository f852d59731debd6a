"""Pixel coordinates of patch windows, shared by the reference ops."""

from __future__ import annotations

import torch
from torch import Tensor

from .._grid import patch_grid


def window_pixels(
    index: Tensor,  # [B, k]
    height: int,
    width: int,
    patch_size: int,
    halo: int,
    stride: int,
) -> tuple[Tensor, Tensor]:
    """Linear pixel of every window position, and whether it lies inside the map.

    Returns:
        ``(pixel, inside)``, both [B, k, P, P] with ``P = patch_size + 2 * halo``; ``pixel`` is
        ``row * width + column``, 0 where ``inside`` is False.

    Raises:
        ValueError: an index outside the grid (checked on the CPU only: elsewhere it would sync).
    """
    gh, gw = patch_grid(height, width, patch_size, stride)
    check_index_range(index, gh * gw)
    offset = torch.arange(patch_size + 2 * halo, device=index.device) - halo  # [P]
    index = index.long()
    row = ((index // gw) * stride)[..., None] + offset  # [B, k, P]
    col = ((index % gw) * stride)[..., None] + offset  # [B, k, P]
    row_inside = (row >= 0) & (row < height)
    col_inside = (col >= 0) & (col < width)
    inside = row_inside[..., :, None] & col_inside[..., None, :]  # [B, k, P, P]
    pixel = row[..., :, None] * width + col[..., None, :]
    return torch.where(inside, pixel, 0), inside


def check_index_range(index: Tensor, cells: int) -> None:
    """Raise ValueError for an index outside [0, cells); on the CPU only, where looking is free."""
    if index.device.type != "cpu" or index.numel() == 0:
        return
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= cells:
        bad = low if low < 0 else high
        raise ValueError(f"expected index values in [0, {cells}), got {bad}")


def check_index_distinct(index: Tensor) -> None:
    """Raise ValueError for a patch named twice in one image; on the CPU only."""
    if index.device.type != "cpu" or index.shape[1] < 2:
        return
    ordered = index.sort(dim=1).values
    twice = ordered[:, 1:] == ordered[:, :-1]
    if bool(twice.any()):
        bad = int(ordered[:, 1:][twice][0])
        raise ValueError(f"expected each patch at most once in an image, got {bad} a second time")


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for everything below."""
    return torch.float64 if dtype == torch.float64 else torch.float32
