"""Results side by side, and enlarged below where they differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sparsesr.viz.strip import comparison_strip, joined
from sparsesr.viz.text import PAPER, paragraph

Crop = tuple[int, int, int, int]  # top, left, height, width

# Bright on any photograph, and told apart by the colour-blind.
FRAMES = ((255, 176, 32), (64, 196, 255), (255, 110, 180))
_FRAME = 3  # pixels

_WIDEST, _HIGHEST = 640, 960  # a whole picture, at most
_NARROWEST = 320  # a column, for the labels' sake
_CROP, _SMALLEST_CROP = 96, 24  # width of a crop, about
_CROP_SHAPE = 9 / 16
_LARGE = 8  # an image shown this many times enlarged needs no crops
_LABEL = 0.075  # height of a label, of the column's width: a long one fits without shrinking
_NOTE = 0.8  # height of a line of the note, of a label's


def crop_size(height: int, width: int) -> tuple[int, int] | None:
    """Height and width of the crops that ``comparison_picture`` enlarges to fill a column.

    Args:
        height, width: of the images in pixels.

    Returns:
        Pixels of the images, a third of the width or less where that is enough to see anything;
        None for an image so small that the whole of it is shown eight times enlarged.
    """
    if shown_size(height, width)[0] >= _LARGE * height:
        return None
    room = _column(height, width) - 2 * _FRAME
    zoom = math.ceil(room / min(_CROP, max(width // 3, min(width, _SMALLEST_CROP))))
    cols = room // zoom
    return max(1, min(height, round(cols * _CROP_SHAPE))), cols


def comparison_picture(
    panels: Sequence[tuple[str, np.ndarray]],
    crops: Sequence[Crop] = (),
    note: str = "",
) -> np.ndarray:
    """A column for each image: the whole of it, its label, and crops enlarged.

    Whole pictures are reduced to 640 pixels in width and 960 in height where they are larger; small
    ones are enlarged by repeating pixels, as far as they stay below. So are the crops, which are
    framed in colours.

    Args:
        panels: (label, [H, W, 3] uint8) pairs of one size.
        crops: (top, left, height, width) in pixels of the images, at most three, of a size of
            ``crop_size``.
        note: below everything.

    Returns:
        [h, w, 3] uint8.

    Raises:
        ValueError: no panels, sizes that differ, more than three crops or one outside the image.
    """
    _check(panels, crops)
    height, width = panels[0][1].shape[:2]
    column = _column(height, width)
    whole = [(words, _overview(image, crops, column)) for words, image in panels]
    label = round(_LABEL * column)
    parts = [comparison_strip(whole, label_height=label)]
    for crop, colour in zip(crops, FRAMES, strict=False):
        tiles = [("", _enlarged(image, crop, column, colour)) for _, image in panels]
        parts.append(comparison_strip(tiles, label_height=0))
    if note:
        parts.append(paragraph(note, parts[0].shape[1], round(_NOTE * label)))
    return joined(parts, axis=0)


def zoom_of(size: tuple[int, int], crop: Crop) -> int:
    """How often ``comparison_picture`` enlarges a crop of images of ``size`` (height, width)."""
    return max(1, (_column(*size) - 2 * _FRAME) // crop[3])


def shown_size(height: int, width: int) -> tuple[int, int]:
    """Height and width in pixels of a whole picture in ``comparison_picture``."""
    ratio = min(_WIDEST / width, _HIGHEST / height)
    if ratio < 1:
        return max(1, round(height * ratio)), max(1, round(width * ratio))
    factor = int(ratio)
    return factor * height, factor * width


def _column(height: int, width: int) -> int:
    """Width of a column for images of that size."""
    return max(_NARROWEST, shown_size(height, width)[1])


def _check(panels: Sequence[tuple[str, np.ndarray]], crops: Sequence[Crop]) -> None:
    if not panels:
        raise ValueError("comparison_picture: expected at least one panel, got none")
    shape = panels[0][1].shape
    for label, image in panels:
        if image.shape != shape or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"comparison_picture: expected [H, W, 3] images of one size, {shape}, got "
                f"{image.shape} of {label!r}"
            )
    if len(crops) > len(FRAMES):
        raise ValueError(
            f"comparison_picture: expected at most {len(FRAMES)} crops, got {len(crops)}"
        )
    for top, left, rows, cols in crops:
        inside = min(top, left) >= 0 and top + rows <= shape[0] and left + cols <= shape[1]
        if min(rows, cols) < 1 or not inside:
            raise ValueError(
                f"comparison_picture: crop {(top, left, rows, cols)} lies outside "
                f"{shape[0]}x{shape[1]}"
            )


def _overview(image: np.ndarray, crops: Sequence[Crop], column: int) -> np.ndarray:
    """The whole image at the size it is shown in, the crops framed, as wide as a column."""
    from PIL import Image, ImageDraw

    height, width = image.shape[:2]
    rows, cols = shown_size(height, width)
    if rows < height or cols < width:
        # Means over whole pixels first: a copy of a large image in floats would not fit.
        small = Image.fromarray(image).resize((cols, rows), Image.Resampling.BICUBIC, None, 3.0)
    else:
        factor = rows // height
        small = Image.fromarray(image.repeat(factor, 0).repeat(factor, 1))
    draw = ImageDraw.Draw(small)
    for (top, left, high, wide), colour in zip(crops, FRAMES, strict=False):
        down, right = rows / height, cols / width
        for out, ink, thickness in ((_FRAME + 1, PAPER, 1), (_FRAME, colour, _FRAME)):
            first = max(0, round(right * left) - out), max(0, round(down * top) - out)
            last = (
                min(cols, round(right * (left + wide)) + out) - 1,
                min(rows, round(down * (top + high)) + out) - 1,
            )
            draw.rectangle((first, last), outline=ink, width=thickness)
    return _centred(np.array(small), column)


def _enlarged(
    image: np.ndarray, crop: Crop, column: int, colour: tuple[int, int, int]
) -> np.ndarray:
    """A crop, every pixel repeated, in its frame."""
    top, left, rows, cols = crop
    zoom = zoom_of((image.shape[0], image.shape[1]), crop)
    part = image[top : top + rows, left : left + cols].repeat(zoom, 0).repeat(zoom, 1)
    framed = np.empty((len(part) + 2 * _FRAME, part.shape[1] + 2 * _FRAME, 3), np.uint8)
    framed[:] = colour
    framed[_FRAME:-_FRAME, _FRAME:-_FRAME] = part
    return _centred(framed, column)


def _centred(image: np.ndarray, column: int) -> np.ndarray:
    """The image in the middle of a column."""
    missing = column - image.shape[1]
    if missing <= 0:
        return image
    wide = np.empty((image.shape[0], column, 3), np.uint8)
    wide[:] = PAPER
    wide[:, missing // 2 : missing // 2 + image.shape[1]] = image
    return wide
