"""Functional ops on patches and masked pixels: one name, one meaning, several backends.

``sparsesr.use_backend`` chooses one.
"""

from __future__ import annotations

from ._grid import patch_grid
from .gather_patches import gather_patches
from .masked_block import masked_block
from .masked_conv2d import masked_conv2d
from .scatter_patches import scatter_patches, scatter_patches_
from .select_gather_patches import select_gather_patches
from .select_patches import select_patches

__all__ = [
    "gather_patches",
    "masked_block",
    "masked_conv2d",
    "patch_grid",
    "scatter_patches",
    "scatter_patches_",
    "select_gather_patches",
    "select_patches",
]
