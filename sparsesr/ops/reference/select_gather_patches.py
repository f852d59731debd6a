"""Reference of ``select_gather_patches``."""

from __future__ import annotations

from torch import Tensor

from .gather_patches import gather_patches
from .select_patches import select_patches


def select_gather_patches(
    mask: Tensor,  # [B, Gh, Gw]
    x: Tensor,  # [B, C, H, W]
    k: int,
    patch_size: int,
    halo: int,
    stride: int,
    largest: bool = True,
) -> tuple[Tensor, Tensor]:
    """``(patches, index)``: the k best patches of ``x`` and where they lie."""
    index = select_patches(mask, k, largest)
    return gather_patches(x, index, patch_size, halo, stride), index
