"""Patches on the HR grid: which pixels they cover, and where refining changes most."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsesr.metrics import rgb_to_y


def error_mask(
    refined: Tensor,  # [B, 3, sH, sW] in [0, 1]
    coarse: Tensor,  # the same shape
    block: int,
) -> Tensor:  # [B, 1, Gh, Gw]
    """Mean |Y(refined) - Y(coarse)| in each patch: the ground truth that MGA's mask is taught.

    Args:
        refined: the output with every patch refined.
        coarse: the output of the Base-Net.
        block: side of a patch in HR pixels, scale * patch_size.

    Returns:
        [B, 1, Gh, Gw] on the 0..255 scale; pixels outside the image count as unchanged.
    """
    change = (rgb_to_y(refined) - rgb_to_y(coarse)).abs()
    height, width = change.shape[-2:]
    change = F.pad(change, (0, -width % block, 0, -height % block))
    return F.avg_pool2d(change, block)


def patch_pixels(
    index: Tensor,  # [B, k] int32
    grid: tuple[int, int],
    block: int,
    size: tuple[int, int],
) -> Tensor:  # [B, 1, sH, sW] bool
    """The pixels that the patches ``index`` of a (Gh, Gw) ``grid`` cover in an image of ``size``.

    Args:
        index: patch numbers row by row, [B, k].
        grid: patches down and across.
        block: side of a patch in pixels of the image.
        size: height and width of the image.
    """
    rows, cols = grid
    chosen = torch.zeros(index.shape[0], rows * cols, dtype=torch.bool, device=index.device)
    chosen.scatter_(1, index.long(), True)
    pixels = chosen.view(-1, 1, rows, cols)
    pixels = pixels.repeat_interleave(block, -2).repeat_interleave(block, -1)
    return pixels[..., : size[0], : size[1]]


def composite(
    coarse: Tensor,  # [B, 3, sH, sW]
    refined: Tensor,  # the same shape
    index: Tensor,  # [B, k] int32
    grid: tuple[int, int],
    block: int,
) -> Tensor:  # [B, 3, sH, sW]
    """``refined`` inside the patches ``index``, ``coarse`` elsewhere (see ``patch_pixels``)."""
    size = (coarse.shape[-2], coarse.shape[-1])
    return torch.where(patch_pixels(index, grid, block, size), refined, coarse)
