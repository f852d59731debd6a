"""Tiles of a network that refines patches: the K largest of the whole image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparsesr.nn import RefineOutput, SparseRefine, selects_patches
from sparsesr.ops import patch_grid

from .tiling import Progress, Tile, canvas, halo_of, tiles_of


def run_refined(
    net: SparseRefine,
    lr: Tensor,  # [1, 3, H, W]
    side: int,
    progress: Progress,
    kept: int,
    k: int | None = None,
    budget: float | None = None,
    order: str = "largest",
    generator: torch.Generator | None = None,
    return_details: bool = False,
) -> Tensor | RefineOutput:
    """``net(lr, ...)`` tile by tile: all scores first, then the patches chosen from all of them.

    Feature maps wait for the second pass where they take no more than ``kept`` bytes;
    else they are computed again.
    """
    size = (lr.shape[2], lr.shape[3])
    count = net.patch_count(size, k, budget)
    job = _Job(net, lr, side)
    sr = job.canvas()
    coarse = job.canvas() if return_details else None
    scored = selects_patches(net) and (count > 0 or return_details)
    progress.begin(len(job.tiles) * (2 if scored else 1))
    mask = job.scores(progress, 0 if return_details else kept) if scored else None
    if mask is None:
        index = torch.arange(count, dtype=torch.int32, device=lr.device)[None]
    else:
        index = net.select(mask, count, order, generator)
    for i in range(len(job.tiles)):
        job.finish(i, index, sr, coarse)
        progress.step()
    if not return_details:
        return sr
    return RefineOutput(sr, coarse, mask, index)


class _Job:
    """One image: its tiles, and the feature maps that are kept."""

    def __init__(self, net: SparseRefine, lr: Tensor, side: int) -> None:
        size = (lr.shape[2], lr.shape[3])
        p, halo = net.patch_size, halo_of(net)
        self.net = net
        self.lr = lr
        self.grid = patch_grid(*size, p)
        self.tiles = tiles_of(size, side, halo, p)
        base: Any = net.base
        context = getattr(base, "context", None)
        # Around its patches a tile needs so much of a feature map that is already right.
        self.near = tiles_of(size, side, halo if context is None else halo - context, p)
        reach: Any = getattr(getattr(net, "mask", None), "reach", None)
        self.far = tiles_of(size, side, halo + (reach or 0), p)
        self.kept: dict[int, Tensor] = {}

    def canvas(self) -> Tensor:
        """An HR image, nothing written yet."""
        return canvas(self.lr, 3, *(self.net.scale * n for n in self.lr.shape[2:]))

    def scores(self, progress: Progress, free: int) -> Tensor:
        """Mask scores [1, 1, Gh, Gw] of the whole image; ``free``: bytes for feature maps."""
        net, p = self.net, self.net.patch_size
        mask = None
        free = free if net.coarse_may_wait() else 0
        for i, tile in enumerate(self.far):
            feature = net.feature(tile.cut(self.lr))
            part = net.score(feature)
            if mask is None:
                mask = part.new_empty(1, 1, *self.grid)
            rows, cols = _cells(tile, p)
            origin = (tile.window_rows.start // p, tile.window_cols.start // p)
            mask[..., rows, cols] = part[..., _moved(rows, origin[0]), _moved(cols, origin[1])]
            wanted = _within(feature, tile, self.near[i])
            if wanted.numel() * wanted.element_size() <= free:
                self.kept[i] = wanted.clone(memory_format=torch.preserve_format)
                free -= wanted.numel() * wanted.element_size()
            progress.step()
        assert mask is not None
        return mask

    def finish(self, i: int, index: Tensor, sr: Tensor, coarse: Tensor | None) -> None:
        """Write tile i: the coarse image with the chosen patches refined."""
        net, feature = self.net, self.kept.pop(i, None)
        tile = self.tiles[i] if feature is None else self.near[i]
        window = tile.cut(self.lr)
        own = _own_patches(index, tile, net.patch_size, self.grid[1])
        if coarse is None:
            image = net.refine_at(window, own, feature)
        else:
            image, feature = net.coarse_and_feature(window)
            tile.place(coarse, net.scale).copy_(tile.trim(image, net.scale))
            image = net.refine_over(image, feature, own)
        tile.place(sr, net.scale).copy_(tile.trim(image, net.scale))


def _cells(tile: Tile, patch_size: int) -> tuple[slice, slice]:
    """Rows and columns of the patch grid that a tile owns."""
    rows, cols = (
        slice(span.start // patch_size, -(-span.end // patch_size))
        for span in (tile.rows, tile.cols)
    )
    return rows, cols


def _moved(cells: slice, origin: int) -> slice:
    return slice(cells.start - origin, cells.stop - origin)


def _within(feature: Tensor, far: Tile, near: Tile) -> Tensor:
    """Of a map of far's window, the window of ``near``."""
    rows = near.window_rows.slice(1, far.window_rows.start)
    return feature[..., rows, near.window_cols.slice(1, far.window_cols.start)]


def _own_patches(index: Tensor, tile: Tile, patch_size: int, grid_width: int) -> Tensor:
    """Of the patches ``index`` [1, k] of the image, a tile's own, numbered in its window."""
    rows, cols = _cells(tile, patch_size)
    row = torch.div(index[0], grid_width, rounding_mode="floor")
    col = index[0] - row * grid_width
    own = (row >= rows.start) & (row < rows.stop) & (col >= cols.start) & (col < cols.stop)
    width = -(-(tile.window_cols.end - tile.window_cols.start) // patch_size)
    row = row[own] - tile.window_rows.start // patch_size
    col = col[own] - tile.window_cols.start // patch_size
    return (row * width + col).to(torch.int32)[None]
