"""What the papers print: rows, cells, and the mean sizes of their test images.

The data is ``sparsesr/assets/published_tables.json``, written by ``tools/published_tables.py``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

PAPERS = ("MGA", "SMSR", "PCSR", "DRSAN")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        params, flops: as printed ("23K", "11.25G"); None where nothing is printed.
        note: why the row is no target, or None.
    """

    paper: str
    table: str
    variant: str
    scale: int
    dataset: str
    params: str | None
    flops: str | None
    note: str | None


@dataclass(frozen=True)
class MeanSize:
    """Mean LR pixels of a data set's images.

    ``crop`` is the multiple that the sides are cropped to; None where the protocol has one crop.
    """

    protocol: str
    dataset: str
    scale: int
    crop: int | None
    pixels: float
    source: str


@cache
def published_rows() -> tuple[Row, ...]:
    """All rows of all four papers."""
    return tuple(
        Row(table["paper"], table["table"], *row)
        for table in _file()["tables"]
        for row in table["rows"]
    )


@cache
def mean_sizes() -> tuple[MeanSize, ...]:
    """All known mean image sizes."""
    return tuple(MeanSize(**size) for size in _file()["mean_lr_pixels"])


def mean_size(protocol: str, dataset: str, scale: int, crop: int | None) -> MeanSize | None:
    """The mean size for a protocol and crop.

    Where a set's files are unknown there is one crop only; it then stands for every other.
    """
    found = [
        size
        for size in mean_sizes()
        if (size.protocol, size.dataset, size.scale) == (protocol, dataset, scale)
    ]
    exact = [size for size in found if size.crop == crop]
    return next(iter(exact or found), None)


def parse_number(text: str) -> tuple[float, float]:
    """A printed number and half a unit of its last digit.

    Example:
        >>> parse_number("0.41 M"), parse_number("335G")
        ((410000.0, 5000.0), (335000000000.0, 500000000.0))
    """
    found = re.fullmatch(r"(\d+(?:\.(\d+))?) ?([KMG]?)", text)
    if found is None:
        raise ValueError(f"expected a number such as 23K, 0.41 M or 11.25G, got {text!r}")
    unit = _UNITS[found[3]]
    half = Decimal(unit) / 2 / 10 ** len(found[2] or "")
    return float(Decimal(found[1]) * unit), float(half)


@cache
def _file() -> dict[str, Any]:
    path = Path(__file__).resolve().parent.parent / "assets" / "published_tables.json"
    return json.loads(path.read_text(encoding="utf-8"))
