"""Text in pictures, with the font that comes with Pillow."""

from __future__ import annotations

import numpy as np

INK = (235, 235, 235)
PAPER = (24, 24, 27)


def text_bar(
    text: str,
    width: int,
    swatch: tuple[int, int, int] | None = None,
    height: int = 24,
) -> np.ndarray:
    """A dark bar [height, width, 3] uint8 with one line of text, shrunk until it fits.

    Args:
        text: the line.
        width: pixels.
        swatch: RGB of a small square before the text, or None.
        height: pixels.
    """
    from PIL import Image, ImageDraw, ImageFont

    bar = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(bar)
    left = height // 4
    if swatch is not None:
        side = height // 2
        top = (height - side) // 2
        draw.rectangle((left, top, left + side - 1, top + side - 1), outline=swatch, width=2)
        left += side + height // 4
    size = height * 0.58
    font = ImageFont.load_default(size)
    while size > 6 and draw.textlength(text, font=font) > width - left - 2:
        size *= 0.92
        font = ImageFont.load_default(size)
    draw.text((left, height / 2), text, fill=INK, font=font, anchor="lm")
    return np.array(bar)
