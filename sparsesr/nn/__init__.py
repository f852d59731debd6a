"""Drop-in layers."""

from __future__ import annotations

from .forms import CoarseOnly, DenseRefine
from .mask_predictor import MaskPredictor
from .sparse_refine import RefineOutput, SparseRefine, effective_k
from .subpixel import SubPixelConvTranspose2d

__all__ = [
    "CoarseOnly",
    "DenseRefine",
    "MaskPredictor",
    "RefineOutput",
    "SparseRefine",
    "SubPixelConvTranspose2d",
    "effective_k",
]
