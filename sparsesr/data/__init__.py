"""Image folders as training batches and as evaluation pairs."""

from __future__ import annotations

from sparsesr.data.cache import CacheError, default_cache_dir
from sparsesr.data.crops import CropBatches, Queries
from sparsesr.data.hr_folder import HRFolder
from sparsesr.data.pairs import ImagePair, load_pair, paired_images
from sparsesr.data.patches import PatchBatches

Batches = PatchBatches | CropBatches

__all__ = [
    "Batches",
    "CacheError",
    "CropBatches",
    "HRFolder",
    "ImagePair",
    "PatchBatches",
    "Queries",
    "default_cache_dir",
    "load_pair",
    "paired_images",
]
