"""Functional ops on patches, masked pixels and classes of pixels, on several backends.

``sparsesr.use_backend`` chooses one.
"""

from __future__ import annotations

from ._grid import patch_grid
from .average_neighbors import average_neighbors
from .gather_patches import gather_patches
from .masked_block import masked_block
from .masked_conv2d import masked_conv2d
from .route_mlp import PixelMLP, route_mlp
from .scatter_patches import scatter_patches, scatter_patches_
from .select_gather_patches import select_gather_patches
from .select_patches import select_patches

__all__ = [
    "PixelMLP",
    "average_neighbors",
    "gather_patches",
    "masked_block",
    "masked_conv2d",
    "patch_grid",
    "route_mlp",
    "scatter_patches",
    "scatter_patches_",
    "select_gather_patches",
    "select_patches",
]
