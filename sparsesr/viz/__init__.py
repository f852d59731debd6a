"""Pictures that show what was computed: which patches were refined, and results side by side."""

from __future__ import annotations

from sparsesr.viz.mask_overlay import mask_overlay
from sparsesr.viz.strip import comparison_strip

__all__ = ["comparison_strip", "mask_overlay"]
