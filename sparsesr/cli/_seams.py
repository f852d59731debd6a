"""``sparsesr evaluate --seams``: quality along the borders of refined patches, and of the rest."""

from __future__ import annotations

from typing import Any

from sparsesr.cli._common import console
from sparsesr.cli._data_sets import image_table
from sparsesr.cli._quality_table import convention_line


def show_seams(document: dict[str, Any]) -> None:
    """Print a document of ``--seams``."""
    smoothed = ", borders smoothed" if document["smooth"] else ""
    title = f"{document['model']} on {document['dataset']}{smoothed}"
    titles = ("band dB", "rest dB", "band dB, all refined", "band of pixels", "refined")
    out = console(stderr=False)
    out.print(image_table(title, titles, document, _cells))
    out.print(
        f"Band: {document['band']} pixels on either side of a border between a refined and a "
        "coarse patch; means over the images that have one."
    )
    out.print(convention_line(document))


def _cells(row: dict[str, Any]) -> list[str]:
    levels = [row[key] for key in ("seam_psnr", "rest_psnr", "refined_psnr")]
    return [
        *("-" if level is None else f"{level:.3f}" for level in levels),
        f"{100 * row['seam_share']:.1f} %",
        f"{100 * row['coverage']:.1f} %",
    ]
