"""Tiles of a network that is called as it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .tiling import Progress, Tile, halo_of, tiles_of

_ALIGN = 2  # networks that halve their map see the same pairs of pixels in every tile


def run_plain(
    net: nn.Module,
    lr: Tensor,  # [1, 3, H, W]
    side: int,
    progress: Progress,
    **options: Any,
) -> Any:
    """``net(lr, **options)``, tile by tile.

    Returns:
        What the network returns: an image, or a tuple of maps that are put together.

    Raises:
        ValueError: a result that is no map and differs between tiles.
    """
    size = (lr.shape[2], lr.shape[3])
    tiles = tiles_of(size, side, halo_of(net), _ALIGN)
    progress.begin(len(tiles))
    whole: Any = None
    for tile in tiles:
        part = net(tile.cut(lr), **options)
        whole = _canvas(part, tile, size) if whole is None else whole
        _write(whole, part, tile)
        progress.step()
    return whole


def _factor(part: Tensor, tile: Tile) -> int | None:
    """How much larger than the window a map is; None if it is no map of it."""
    if part.dim() < 4:
        return None
    height = tile.window_rows.end - tile.window_rows.start
    width = tile.window_cols.end - tile.window_cols.start
    factor = part.shape[-1] // width
    same = part.shape[-2] == factor * height and part.shape[-1] == factor * width
    return factor if same and factor > 0 else None


def _canvas(part: Any, tile: Tile, size: tuple[int, int]) -> Any:
    if isinstance(part, tuple):
        made = [_canvas(each, tile, size) for each in part]
        return type(part)(*made) if hasattr(part, "_fields") else tuple(made)
    factor = _factor(part, tile) if isinstance(part, Tensor) else None
    if factor is None:
        return part
    shape = (*part.shape[:-2], factor * size[0], factor * size[1])
    channels_last = part.dim() == 4 and part.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=layout)


def _write(whole: Any, part: Any, tile: Tile) -> None:
    if isinstance(part, tuple):
        for target, each in zip(whole, part, strict=True):
            _write(target, each, tile)
        return
    factor = _factor(part, tile) if isinstance(part, Tensor) else None
    if factor is not None:
        tile.place(whole, factor).copy_(tile.trim(part, factor))
    elif isinstance(part, Tensor) and not torch.equal(part, whole):
        raise ValueError(
            f"a result of shape {tuple(part.shape)} differs from tile to tile; leave out "
            "return_details, or run the image whole: tile=0"
        )
