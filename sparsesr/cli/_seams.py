"""``sparsesr evaluate --seams``: quality along the borders of refined patches, and of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparsesr.cli._common import console
from sparsesr.cli._data_sets import progress_bar
from sparsesr.cli._quality_table import convention_line


def measure_sets(
    net: Any, scale: int, folders: Sequence[Path], quiet: bool, options: dict[str, Any]
) -> list[dict[str, Any]]:
    """A document of ``measure_seams`` for each folder."""
    from sparsesr.inference.seams import measure_seams

    documents = []
    for folder in folders:
        with progress_bar(quiet) as show:
            documents.append(measure_seams(net, folder, scale, progress=show, **options))
    return documents


def show_seams(document: dict[str, Any]) -> None:
    """Print a document of ``--seams``."""
    from rich.table import Table

    smoothed = ", borders smoothed" if document["smooth"] else ""
    title = f"{document['model']} on {document['dataset']}{smoothed}"
    table = Table(title=title, title_justify="left")
    table.add_column("image")
    titles = ("band dB", "rest dB", "band dB, all refined", "band of pixels", "refined")
    for name in titles:
        table.add_column(name, justify="right")
    for image in document["images"]:
        table.add_row(image["name"], *_cells(image))
    table.add_section()
    table.add_row("mean", *_cells(document["mean"]))
    out = console(stderr=False)
    out.print(table)
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
