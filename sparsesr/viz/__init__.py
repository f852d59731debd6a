"""Pictures that show what was computed: patches refined, masks, and results side by side."""

from __future__ import annotations

from sparsesr.viz.mask_overlay import mask_overlay
from sparsesr.viz.pixel_masks import pixel_masks
from sparsesr.viz.strip import comparison_strip

__all__ = ["comparison_strip", "mask_overlay", "pixel_masks"]
