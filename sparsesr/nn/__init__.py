"""Drop-in layers."""

from __future__ import annotations

from .forms import CoarseOnly, DenseRefine
from .mask_predictor import MaskPredictor
from .sparse_mask import SparseMask, SparseMaskBlock, SparseMaskModule, has_sparse_masks
from .sparse_refine import (
    RefineOutput,
    SparseRefine,
    check_k_budget,
    effective_k,
    selects_patches,
)
from .subpixel import SubPixelConvTranspose2d

__all__ = [
    "CoarseOnly",
    "DenseRefine",
    "MaskPredictor",
    "RefineOutput",
    "SparseMask",
    "SparseMaskBlock",
    "SparseMaskModule",
    "SparseRefine",
    "SubPixelConvTranspose2d",
    "check_k_budget",
    "effective_k",
    "has_sparse_masks",
    "selects_patches",
]
