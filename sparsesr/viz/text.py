"""Text in pictures, with the font that comes with Pillow."""

from __future__ import annotations

import numpy as np

INK = (235, 235, 235)
PAPER = (24, 24, 27)
_FONT = 0.58  # size of the letters, of a bar's height


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
    size = height * _FONT
    font = ImageFont.load_default(size)
    while size > 6 and draw.textlength(text, font=font) > width - left - 2:
        size *= 0.92
        font = ImageFont.load_default(size)
    draw.text((left, height / 2), text, fill=INK, font=font, anchor="lm")
    return np.array(bar)


def paragraph(text: str, width: int, height: int = 24) -> np.ndarray:
    """Text on a dark ground, broken between words so that it need not shrink; [h, width, 3] uint8.

    Args:
        text: words with spaces between them.
        width: pixels.
        height: pixels of each line.
    """
    from PIL import ImageFont

    font = ImageFont.load_default(height * _FONT)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width - height // 2:
            lines[-1] = longer
        else:
            lines.append(word)
    return np.concatenate([text_bar(line, width, height=height) for line in lines or [""]])
