"""Pictures that show what was computed: patches refined, masks, results side by side, curves."""

from __future__ import annotations

from sparsesr.viz.compare import comparison_picture
from sparsesr.viz.curves import sweep_curves
from sparsesr.viz.mask_error import change_histogram, mask_panels
from sparsesr.viz.mask_overlay import mask_overlay
from sparsesr.viz.pixel_masks import pixel_masks
from sparsesr.viz.plots import FIGURE_SUFFIXES, check_figure_name, save_figure
from sparsesr.viz.stages import stage_bars, stage_words
from sparsesr.viz.strip import comparison_strip

__all__ = [
    "FIGURE_SUFFIXES",
    "change_histogram",
    "check_figure_name",
    "comparison_picture",
    "comparison_strip",
    "mask_overlay",
    "mask_panels",
    "pixel_masks",
    "save_figure",
    "stage_bars",
    "stage_words",
    "sweep_curves",
]
