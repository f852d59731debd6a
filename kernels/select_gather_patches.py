"""``select_gather_patches`` in Triton: the two ops one behind the other, nothing between them.

A kernel of its own would have to wait for the whole selection before its first window; two launches
on one stream are that wait. The index never leaves the device.
"""

from __future__ import annotations

from torch import Tensor

from .gather_patches import gather_patches
from .select_patches import select_patches


def select_gather_patches(
    mask: Tensor,  # [B, Gh, Gw]
    x: Tensor,  # [B, C, H, W]
    index: Tensor,  # [B, k] int32, written
    patches: Tensor,  # [B*k, C, P, P], written
    halo: int,
    stride: int,
    largest: bool,
) -> None:
    """Write the k best patches of ``x`` and where they lie; arguments as of the two ops."""
    select_patches(mask, index, largest)
    gather_patches(x, index, patches, halo, stride, (mask.shape[1], mask.shape[2]))
