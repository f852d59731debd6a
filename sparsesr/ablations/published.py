"""What the papers print in the rows of their ablations."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from sparsesr.tables.published import published_rows


def published_row(paper: str, table: str, row: str, scale: int | None) -> dict[str, Any]:
    """{data set: {"psnr", "ssim", "sparsity", "params", "flops"}}, only what is printed.

    Args:
        scale: of the row, where the table has several under one name.

    Example:
        >>> published_row("DRSAN", "VI", "DRM activation Tanh", None)
        {'Urban100': {'psnr': 31.79}}
    """
    found: dict[str, dict[str, Any]] = {}
    for name, at, dataset, *quality in _quality().get((paper, table), []):
        if name == row and scale in (None, at):
            keys = zip(("psnr", "ssim", "sparsity"), quality, strict=True)
            found[dataset] = {key: value for key, value in keys if value is not None}
    for cost in published_rows():
        same = (cost.paper, cost.table, cost.variant) == (paper, table, row)
        if same and scale in (None, cost.scale) and cost.note is None:
            for key in ("params", "flops"):
                if getattr(cost, key) is not None:
                    found[cost.dataset][key] = getattr(cost, key)
    return found


@cache
def _quality() -> dict[tuple[str, str], list[list[Any]]]:
    path = Path(__file__).resolve().parent.parent / "assets" / "published_quality.json"
    tables = json.loads(path.read_text(encoding="utf-8"))["tables"]
    return {(table["paper"], table["table"]): table["rows"] for table in tables}
