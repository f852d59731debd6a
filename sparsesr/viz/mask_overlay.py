"""Which patches were refined, drawn over the image."""

from __future__ import annotations

import numpy as np

from sparsesr.metrics import FULL_RANGE_LUMA
from sparsesr.viz.text import text_bar

OUTLINE = (255, 176, 32)
_DIM = 0.38  # brightness of what was left coarse


def mask_overlay(
    image: np.ndarray,  # [H, W, 3] uint8
    index: np.ndarray,  # [k] int
    grid: tuple[int, int],
    patch: int,
    legend: bool = True,
) -> np.ndarray:
    """The image with its refined patches bright and outlined, the rest dimmed and grey.

    Args:
        image: [H, W, 3] uint8.
        index: patch numbers, row by row on the grid, [k] of any integer dtype.
        grid: patches down and across, (Gh, Gw).
        patch: side of a patch in pixels of ``image``.
        legend: add a bar below that says what is what.

    Returns:
        [H, W, 3] uint8, 24 rows more with the legend.

    Raises:
        TypeError: ``image`` is not uint8.
        ValueError: wrong shapes, an index outside the grid, or a grid that does not cover the
            image.
    """
    image = np.asarray(image)
    numbers = np.asarray(index).reshape(-1).astype(np.int64)
    rows, cols = grid
    if image.dtype != np.uint8:
        raise TypeError(f"mask_overlay: expected a uint8 image, got {image.dtype}")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"mask_overlay: expected [H, W, 3], got {image.shape}")
    height, width = image.shape[:2]
    if rows * patch < height or cols * patch < width:
        raise ValueError(
            f"mask_overlay: a {rows}x{cols} grid of {patch}-pixel patches does not cover "
            f"{height}x{width} pixels"
        )
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < rows * cols):
        raise ValueError(f"mask_overlay: expected patch numbers below {rows * cols}, got {numbers}")
    chosen = np.zeros(rows * cols, dtype=bool)
    chosen[numbers] = True
    inside = chosen.reshape(rows, cols).repeat(patch, 0).repeat(patch, 1)[:height, :width]
    picture = dimmed(image, inside)
    picture[_outline(inside, 2 if patch >= 12 else 1)] = OUTLINE
    if not legend:
        return picture
    count = int(chosen.sum())
    share = 100 * count / chosen.size
    text = f"refined: {count:,} of {chosen.size:,} patches ({share:.0f} %); dimmed: coarse only"
    return np.concatenate([picture, text_bar(text, width, OUTLINE)])


def dimmed(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """``image`` [H, W, 3] uint8 where ``inside`` [H, W] bool is True, dark and grey elsewhere."""
    grey = image.astype(np.float32) @ np.array(FULL_RANGE_LUMA, np.float32)
    return np.where(inside[..., None], image, (_DIM * grey)[..., None]).astype(np.uint8)


def _outline(inside: np.ndarray, thickness: int) -> np.ndarray:
    """Pixels within ``thickness`` outside the chosen region, so that its own stay visible."""
    grown = inside
    for _ in range(thickness):
        padded = np.pad(grown, 1)
        grown = padded[1:-1, 1:-1].copy()
        for down in (0, 1, 2):
            for right in (0, 1, 2):
                grown |= padded[down : down + inside.shape[0], right : right + inside.shape[1]]
    return grown & ~inside
