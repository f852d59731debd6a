"""Results side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparsesr.viz.text import PAPER, text_bar

_GAP = 4


def comparison_strip(
    panels: Sequence[tuple[str, np.ndarray]],
    crop: tuple[int, int, int, int] | None = None,
    zoom: int = 1,
    columns: int | None = None,
    label_height: int = 24,
) -> np.ndarray:
    """Images of one size in a row, each with its label below.

    Args:
        panels: (label, [H, W, 3] uint8) pairs; a smaller image whose sides divide the largest
            one's (an LR image) is enlarged by repeating pixels.
        crop: (top, left, height, width) in pixels of the largest image, None for all of it.
        zoom: enlargement by repeating pixels, >= 1.
        columns: panels in a row before a new row starts; None for one row.
        label_height: pixels; 0 leaves the labels out.

    Returns:
        [h, w, 3] uint8.

    Raises:
        ValueError: no panels, sizes that do not match, a crop outside the image.
    """
    if not panels:
        raise ValueError("comparison_strip: expected at least one panel, got none")
    height = max(image.shape[0] for _, image in panels)
    width = max(image.shape[1] for _, image in panels)
    top, left, rows, cols = crop if crop is not None else (0, 0, height, width)
    if min(top, left) < 0 or min(rows, cols) < 1 or top + rows > height or left + cols > width:
        raise ValueError(f"comparison_strip: crop {crop} lies outside {height}x{width}")
    tiles = []
    for label, image in panels:
        factor = height // image.shape[0]
        enlarged = image.repeat(factor, 0).repeat(factor, 1)
        if enlarged.shape != (height, width, 3):
            raise ValueError(
                f"comparison_strip: {label!r} is {image.shape}, which no whole factor brings to "
                f"{height}x{width}x3"
            )
        part = enlarged[top : top + rows, left : left + cols].repeat(zoom, 0).repeat(zoom, 1)
        if label_height:
            part = np.concatenate([part, text_bar(label, part.shape[1], height=label_height)])
        tiles.append(part)
    across = columns or len(tiles)
    blank = np.full_like(tiles[0], PAPER)
    tiles += [blank] * (-len(tiles) % across)
    lines = [joined(tiles[i : i + across], axis=1) for i in range(0, len(tiles), across)]
    return joined(lines, axis=0)


def joined(parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Pictures [h, w, 3] uint8 below (axis 0) or beside (axis 1) each other, with dark gaps."""
    shape = list(parts[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, PAPER, dtype=np.uint8)
    spaced = [piece for part in parts for piece in (part, gap)]
    return np.concatenate(spaced[:-1], axis=axis)
