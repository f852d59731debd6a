"""Functional patch ops: one name, one meaning, several backends (see ``sparsesr.use_backend``)."""

from __future__ import annotations

from ._grid import patch_grid
from .gather_patches import gather_patches
from .scatter_patches import scatter_patches, scatter_patches_
from .select_gather_patches import select_gather_patches
from .select_patches import select_patches

__all__ = [
    "gather_patches",
    "patch_grid",
    "scatter_patches",
    "scatter_patches_",
    "select_gather_patches",
    "select_patches",
]
