"""Plain-torch definitions of every op: the meaning, the fallback and the test oracle.

They run on any device and in float64, are differentiable by torch itself, and favour clarity over
speed. Argument names are those of the other backends.
"""

from __future__ import annotations

from .average_neighbors import average_neighbors
from .gather_patches import gather_patches, gather_patches_backward
from .masked_block import masked_block
from .masked_conv2d import masked_conv2d
from .refine_patches import refine_patches_
from .route_mlp import route_mlp
from .run_program import run_program
from .scatter_patches import scatter_patches, scatter_patches_, scatter_patches_backward
from .select_gather_patches import select_gather_patches
from .select_patches import select_patches

__all__ = [
    "average_neighbors",
    "gather_patches",
    "gather_patches_backward",
    "masked_block",
    "masked_conv2d",
    "refine_patches_",
    "route_mlp",
    "run_program",
    "scatter_patches",
    "scatter_patches_",
    "scatter_patches_backward",
    "select_gather_patches",
    "select_patches",
]
