"""Running networks on images: one image, a data set, a stopwatch."""

from __future__ import annotations

from sparsesr.inference.choices import PAPER_K, QUALITY
from sparsesr.inference.comparison import compare
from sparsesr.inference.evaluation import evaluate
from sparsesr.inference.pictures import upscale_picture
from sparsesr.inference.profiling import profile
from sparsesr.inference.rivals import Rival, lean_rival
from sparsesr.inference.sweep import sweep
from sparsesr.inference.upscaler import Upscaler

__all__ = [
    "PAPER_K",
    "QUALITY",
    "Rival",
    "Upscaler",
    "compare",
    "evaluate",
    "lean_rival",
    "profile",
    "sweep",
    "upscale_picture",
]
