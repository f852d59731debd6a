"""Reference of ``refine_patches_``: gather, run the program on the batch, scatter."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .gather_patches import gather_patches
from .run_program import run_program
from .scatter_patches import scatter_patches_


def refine_patches_(
    canvas: Tensor,  # [B, O, s*H, s*W], written
    feature: Tensor,  # [B, C, H, W]
    index: Tensor,  # [B, k] int32
    weights: Sequence[Tensor],
    program: str,
    patch_size: int,
    halo: int,
) -> None:
    """Windows of ``feature`` through the program, into the canvas where they lie."""
    if index.numel() == 0:
        return
    patches = gather_patches(feature, index, patch_size, halo, patch_size)
    refined = run_program(patches, weights, program)
    scatter_patches_(
        canvas, refined.to(canvas.dtype), index, refined.shape[-1], refined.shape[-1], "replace"
    )
