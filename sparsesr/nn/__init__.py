"""Drop-in layers."""

from __future__ import annotations

from .forms import CoarseOnly, DenseRefine
from .gradient_mask import gradient_mask
from .mask_predictor import MaskPredictor
from .masked_conv import MaskedConv2d, MaskedConvModule
from .masked_module import MaskedModule, SparseMask, SpatialMask, has_sparse_masks
from .patch_router import PatchesOutput, PatchRouter
from .pixel_router import (
    MixedOutput,
    PixelRouter,
    RoutedOutput,
    check_routing,
    routes_pixels,
)
from .pixel_sampler import PixelSampler
from .sparse_mask import SparseMaskBlock, SparseMaskModule
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
    "MaskedConv2d",
    "MaskedConvModule",
    "MaskedModule",
    "MixedOutput",
    "PatchRouter",
    "PatchesOutput",
    "PixelRouter",
    "PixelSampler",
    "RefineOutput",
    "RoutedOutput",
    "SparseMask",
    "SparseMaskBlock",
    "SparseMaskModule",
    "SparseRefine",
    "SpatialMask",
    "SubPixelConvTranspose2d",
    "check_k_budget",
    "check_routing",
    "effective_k",
    "gradient_mask",
    "has_sparse_masks",
    "routes_pixels",
    "selects_patches",
]
