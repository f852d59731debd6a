"""Running networks on images: one image, a data set, a stopwatch."""

from __future__ import annotations

from sparsesr.inference.evaluation import PAPER_K, evaluate
from sparsesr.inference.profiling import profile
from sparsesr.inference.upscaler import Upscaler

__all__ = ["PAPER_K", "Upscaler", "evaluate", "profile"]
