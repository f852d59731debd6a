"""Functional ops on patches, masked pixels and classes of pixels, on several backends.

``sparsesr.use_backend`` chooses one.
"""

from __future__ import annotations

from . import _program
from ._grid import patch_grid
from ._program import Program, parse_program
from .average_neighbors import average_neighbors
from .gather_patches import gather_patches
from .masked_block import masked_block
from .masked_conv2d import masked_conv2d
from .refine_patches import refine_patches_
from .route_mlp import PixelMLP, route_mlp
from .run_program import run_program
from .scatter_patches import scatter_patches, scatter_patches_
from .select_gather_patches import select_gather_patches
from .select_patches import select_patches

PROGRAMS = _program.__doc__  # the language of programs

__all__ = [
    "PROGRAMS",
    "PixelMLP",
    "Program",
    "average_neighbors",
    "gather_patches",
    "masked_block",
    "masked_conv2d",
    "parse_program",
    "patch_grid",
    "refine_patches_",
    "route_mlp",
    "run_program",
    "scatter_patches",
    "scatter_patches_",
    "select_gather_patches",
    "select_patches",
]
