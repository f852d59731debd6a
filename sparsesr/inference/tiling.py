"""Where tiles lie: what each writes, and how much around it must be seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

OVERLAP = 16  # LR pixels around a tile of a network whose receptive field has no bound
SMALLEST = 16  # LR pixels, side of a tile
KEPT_FEATURES = 256 * 2**20  # bytes of feature maps that may wait for a second pass


class Span(NamedTuple):
    """Rows or columns from ``start`` up to, not including, ``end``."""

    start: int
    end: int

    def slice(self, scale: int = 1, origin: int = 0) -> slice:
        """The same, enlarged, counted from ``origin`` of the small image."""
        return slice((self.start - origin) * scale, (self.end - origin) * scale)


class Tile(NamedTuple):
    """A rectangle of the LR image and the window that is computed for it.

    Attributes:
        rows, cols: what the tile writes; tiles share no pixel.
        window_rows, window_cols: what the network sees, within the image.
    """

    rows: Span
    cols: Span
    window_rows: Span
    window_cols: Span

    def cut(self, image: Tensor) -> Tensor:  # [..., H, W] -> the window
        """The window of an LR map."""
        return image[..., self.window_rows.slice(), self.window_cols.slice()]

    def trim(self, result: Tensor, scale: int = 1) -> Tensor:
        """Of what was computed for the window, ``scale`` times as large, what the tile writes."""
        rows = self.rows.slice(scale, self.window_rows.start)
        return result[..., rows, self.cols.slice(scale, self.window_cols.start)]

    def place(self, canvas: Tensor, scale: int = 1) -> Tensor:
        """Where the tile writes in an image ``scale`` times as large as the LR image (a view)."""
        return canvas[..., self.rows.slice(scale), self.cols.slice(scale)]


class Progress:
    """Counts tiles for a callback ``(done, all)``, over several rounds of equal length."""

    def __init__(self, callback: Callable[[int, int], None] | None, rounds: int = 1) -> None:
        self._callback = callback
        self._rounds = rounds
        self._round = -1
        self._steps = 1
        self._done = 0

    def next_round(self) -> None:
        """The next image, or symmetry of it, begins."""
        self._round += 1

    def begin(self, steps: int) -> None:
        """This round takes so many steps; called again when it starts over."""
        self._steps, self._done = steps, 0

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        if self._callback is not None:
            done = max(self._round, 0) * self._steps + self._done
            self._callback(done, self._rounds * self._steps)


def tiles_of(size: tuple[int, int], side: int, halo: int, align: int = 1) -> list[Tile]:
    """Tiles that cover an image once, row by row.

    Windows reach ``halo`` pixels beyond a tile, further to a multiple of ``align``, and end with
    the image: so a convolution's zeros lie where the whole image has them.

    Args:
        size: (H, W) of the LR image. side: of a tile, LR pixels; rounded down to ``align``.
        halo: LR pixels on every side. align: tiles and windows start at multiples of it.

    Example:
        >>> [tile.window_cols for tile in tiles_of((8, 20), side=10, halo=3, align=4)]
        [Span(start=0, end=12), Span(start=4, end=20), Span(start=12, end=20)]
    """
    rows, cols = (_spans(length, side, halo, align) for length in size)
    return [
        Tile(row, col, window_row, window_col)
        for row, window_row in rows
        for col, window_col in cols
    ]


def _spans(length: int, side: int, halo: int, align: int) -> list[tuple[Span, Span]]:
    side = max(side // align, 1) * align
    spans = []
    for start in range(0, length, side):
        end = min(start + side, length)
        first = max((start - halo) // align * align, 0)
        last = min(-(-(end + halo) // align) * align, length)
        spans.append((Span(start, end), Span(first, last)))
    return spans


def reach_of(net: nn.Module) -> int | None:
    """LR pixels on every side of an output pixel that it depends on; None without a bound."""
    field: Any = getattr(net, "receptive_field", None)
    return None if field is None else (field - 1) // 2


def halo_of(net: nn.Module) -> int:
    """LR pixels around a tile: the network's reach, or ``OVERLAP`` where that has no bound."""
    reach = reach_of(net)
    return OVERLAP if reach is None else reach


def canvas(lr: Tensor, channels: int, height: int, width: int) -> Tensor:
    """[1, channels, height, width] in dtype, device and memory format of ``lr``, not filled."""
    last = lr.is_contiguous(memory_format=torch.channels_last)
    return torch.empty(
        (1, channels, height, width),
        dtype=lr.dtype,
        device=lr.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )
