"""The sparse path as a careful user of plain PyTorch writes it: index the windows once, run the
Refine-Net on them, write them back by index.

Nothing is unfolded and no canvas is cloned. The canvas is a view of one with room for whole patches
at its lower and right edge, so that these are written like all others.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sparsesr.ops import patch_grid


def roomy_canvas(channels: int, height: int, width: int, side: int, layout: torch.memory_format):
    """An empty image [1,C,H,W] that lies in one of whole patches of `side` pixels."""
    rows, cols = patch_grid(height, width, side)
    room = torch.zeros(1, channels, rows * side, cols * side).contiguous(memory_format=layout)
    return room[:, :, :height, :width], room


def gather(x: Tensor, index: Tensor, patch_size: int, halo: int) -> Tensor:
    """Windows [K,C,p+2h,p+2h] of x [1,C,H,W] in its layout, zero outside; index [K] int64."""
    height, width = x.shape[2:]
    cols_of_grid = patch_grid(height, width, patch_size)[1]
    reach = torch.arange(-halo, patch_size + halo)
    rows = (index // cols_of_grid * patch_size)[:, None] + reach
    cols = (index % cols_of_grid * patch_size)[:, None] + reach
    inside_rows, inside_cols = (rows >= 0) & (rows < height), (cols >= 0) & (cols < width)
    rows, cols = rows.clamp(0, height - 1), cols.clamp(0, width - 1)
    pixels = x[0].permute(1, 2, 0)
    if pixels.is_contiguous():
        windows = pixels[rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)
    else:
        channels = torch.arange(x.shape[1])[None, :, None, None]
        windows = x[0][channels, rows[:, None, :, None], cols[:, None, None, :]]
    # Few windows reach over an edge: only these are touched again.
    over = (~(inside_rows.all(1) & inside_cols.all(1))).nonzero()[:, 0]
    inside = inside_rows[over, None, :, None] & inside_cols[over, None, None, :]
    windows[over] = torch.where(inside, windows[over], 0)
    return windows


def scatter(room: Tensor, patches: Tensor, index: Tensor) -> None:
    """Write patches [K,C,s,s] into `room` [1,C,R*s,Q*s] at the positions `index` [K]."""
    side = patches.shape[-1]
    blocks = room[0].unflatten(2, (-1, side)).unflatten(1, (-1, side))  # [C, R, s, Q, s]
    cols = blocks.shape[3]
    blocks.permute(1, 3, 0, 2, 4)[index // cols, index % cols] = patches


def refine(
    room: Tensor,
    x: Tensor,
    index: Tensor,  # [K] int64
    net: Callable[[Tensor], Tensor],
    patch_size: int,
    halo: int,
    chunk: int | None = None,
) -> None:
    """Gather, refine and write, all patches at once or `chunk` at a time, to stay in the cache."""
    for part in index.split(chunk or max(1, len(index))):
        scatter(room, net(gather(x, part, patch_size, halo)), part)
