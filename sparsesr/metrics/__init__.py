"""Image quality the way super-resolution papers measure it: MATLAB bicubic, PSNR and SSIM."""

from __future__ import annotations

from sparsesr.metrics.quality import (
    FULL_RANGE_LUMA,
    LUMA,
    Convention,
    psnr,
    quantize,
    rgb_to_y,
    ssim,
)
from sparsesr.metrics.resize import imresize

__all__ = [
    "FULL_RANGE_LUMA",
    "LUMA",
    "Convention",
    "imresize",
    "psnr",
    "quantize",
    "rgb_to_y",
    "ssim",
]
