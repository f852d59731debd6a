"""``sparsesr evaluate --mask-error``: masks beside their ground truth, and what changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparsesr.cli._common import console
from sparsesr.cli._data_sets import check_outputs, data_set_names, image_table, progress_bar


def compare_sets(
    net: Any,
    scale: int,
    folders: Sequence[Path],
    output: Path,
    pictures: int,
    overwrite: bool,
    quiet: bool,
    options: dict[str, Any],
) -> list[dict[str, Any]]:
    """A document for each folder; its pictures lie in ``output`` and are named in it."""
    from sparsesr.data import paired_images

    files = []
    for folder, name in zip(folders, data_set_names(folders), strict=True):
        shown = [pair.name for pair in paired_images(folder, scale)[:pictures]]
        files.append([output / f"{name}_{image}_mask.png" for image in shown])
        files[-1].append(output / f"{name}_change.png")
    if output.is_dir():
        check_outputs([file for of_set in files for file in of_set], overwrite)
    return [
        _compare(net, scale, folder, of_set, overwrite, quiet, options)
        for folder, of_set in zip(folders, files, strict=True)
    ]


def _compare(
    net: Any,
    scale: int,
    folder: Path,
    files: Sequence[Path],
    overwrite: bool,
    quiet: bool,
    options: dict[str, Any],
) -> dict[str, Any]:
    """One data set: the last of ``files`` is the histogram, the others are the first images'."""
    from sparsesr.inference.mask_error import (
        BINS_PER_LEVEL,
        compare_masks,
        mask_error_document,
    )
    from sparsesr.io import write_image
    from sparsesr.viz import change_histogram, mask_panels, save_figure

    rows: list[dict[str, Any]] = []
    counts: Any = 0
    with progress_bar(quiet) as show:
        for i, image in enumerate(compare_masks(net, folder, scale, progress=show, **options)):
            if i == 0:
                files[0].parent.mkdir(parents=True, exist_ok=True)
            rows.append(image.row())
            counts = counts + image.histogram()
            if i < len(files) - 1:
                panels = mask_panels(
                    image.coarse, image.target, image.predicted, image.change, image.l1
                )
                write_image(files[i], panels, overwrite)
    document = mask_error_document(net, scale, folder, rows)
    title = f"{document['model']} on {document['dataset']}: what refining every patch changes"
    save_figure(change_histogram(counts, BINS_PER_LEVEL, title), files[-1], overwrite)
    return {**document, "files": [str(file) for file in files]}


def show_mask_error(document: dict[str, Any]) -> None:
    """Print a document of ``--mask-error``."""
    title = f"{document['model']} on {document['dataset']}"
    titles = ("mask L1", "L1 of an all-zero mask", "pixels changed < 1/255")
    out = console(stderr=False)
    out.print(image_table(title, titles, document, _cells))
    out.print(
        f"Mask L1: mean |M - T| over the patches, T normalised in each image; the paper (MGA, "
        f"figure 6) gives {document['paper_mask_l1']}."
    )
    out.print("Change: |refined - coarse| on Y, every patch refined, before rounding.")
    files = ", ".join(Path(file).name for file in document["files"])
    out.print(
        f"Pictures in {Path(document['files'][0]).parent}: {files}", markup=False, soft_wrap=True
    )


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['mask_l1']:.4f}",
        f"{row['zero_mask_l1']:.4f}",
        f"{100 * row['unchanged']:.1f} %",
    ]
