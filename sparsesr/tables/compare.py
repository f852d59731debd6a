"""Published figures beside ours, row by row."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import torch
from torch import nn

from sparsesr.complexity import Complexity, complexity
from sparsesr.models import create_model, list_models

from .published import PAPERS, Row, mean_size, parse_number, published_rows
from .rules import Recipe, recipe

# Any image does: K patches cost the same on all, and the rest is proportional to the LR pixels.
_LR_SIZE = (512, 512)
_HR_720P = (720, 1280)
_TOLERANCE, _COARSE_TOLERANCE = 0.001, 0.002

Item = tuple[str, Any]


def compare_tables(papers: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Every row of the papers' tables: the published figure, ours, and whether they agree.

    ``reproduced`` means |ours - published| <= half a unit of the last printed digit + 0.1 % of
    published (0.2 % for PCSR and for MGA Table 6, whose image sizes are less well known).

    Args:
        papers: names out of ``PAPERS``, in any case; all by default.

    Returns:
        Dicts with the keys paper, table, variant, scale, dataset, quantity ("params" or "flops"),
        published, published_text, ours, error_percent, reproduced, reason. Figures are plain
        numbers of parameters or of FLOPs as the paper counts them; None where there is none.
        ``reason`` says why a row is not reproduced and is None where it is. A row that prints
        neither quantity appears once, as "flops".

    Raises:
        ValueError: an unknown paper.

    Example:
        >>> row = compare_tables(["smsr"])[-1]
        >>> row["variant"], row["dataset"], row["quantity"], row["published_text"], row["published"]
        ('IMDN Ours (b)', 'Urban100', 'flops', '23.77G', 23770000000.0)
    """
    chosen = set(PAPERS if papers is None else map(_known, papers))
    return [
        _compare(row, quantity)
        for row in published_rows()
        if row.paper in chosen
        for quantity in _quantities(row)
    ]


def _known(paper: str) -> str:
    if paper.upper() not in PAPERS:
        raise ValueError(f"unknown paper {paper!r}; expected {', '.join(PAPERS).lower()}")
    return paper.upper()


def _quantities(row: Row) -> list[str]:
    if row.params is None and row.flops is None:
        # An illegible row has lost both; a row without a note never had any.
        return ["params", "flops"] if row.note else ["flops"]
    return [q for q in ("params", "flops") if getattr(row, q) is not None]


def _compare(row: Row, quantity: str) -> dict[str, Any]:
    text = getattr(row, quantity)
    published, half_digit = (None, 0.0) if text is None else parse_number(text)
    ours, reason = _ours(row, quantity)
    error, reproduced = None, False
    if ours is not None and published is not None:
        error = 100 * (ours - published) / published
        coarse = row.paper == "PCSR" or (row.paper, row.table) == ("MGA", "6")
        share = _COARSE_TOLERANCE if coarse else _TOLERANCE
        reproduced = abs(ours - published) <= half_digit + share * published
    return {
        "paper": row.paper,
        "table": row.table,
        "variant": row.variant,
        "scale": row.scale,
        "dataset": row.dataset,
        "quantity": quantity,
        "published": published,
        "published_text": text,
        "ours": ours,
        "error_percent": error,
        "reproduced": reproduced,
        "reason": None if reproduced else row.note or reason or "differs by more than rounding",
    }


def _ours(row: Row, quantity: str) -> tuple[int | None, str | None]:
    """Our figure, and what there is to say where it is missing or differs."""
    if getattr(row, quantity) is None and row.note is None:
        return None, "the row prints neither parameters nor FLOPs"
    how = recipe(row)
    if isinstance(how, str):
        return None, how
    reason = how.params_reason if quantity == "params" else how.flops_reason
    missing = _unavailable(how.model, row.scale)
    if reason is not None and quantity == "flops" and missing is None:
        reason += _implied(row, how)
    if reason is not None or missing is not None:
        return None, reason or missing
    options, run = tuple(how.options.items()), tuple(how.run.items())
    if how.protocol == "720p":
        size = (math.ceil(_HR_720P[0] / row.scale), math.ceil(_HR_720P[1] / row.scale))
    else:
        size = _LR_SIZE
    if quantity == "params":
        params = _count(how.model, row.scale, options, run, size).params
        return params - _uncounted(how, row.scale, options), how.caveat
    if how.protocol == "720p":
        return _count(how.model, row.scale, options, run, size).paper_flops, how.caveat
    return _mean_flops(row, how, options, run)


def _implied(row: Row, how: Recipe) -> str:
    """What the published FLOPs of a network that routes pixels say of its pixels."""
    size = mean_size(how.protocol, row.dataset, row.scale, how.crop)
    if not how.model.endswith("-pcsr") or size is None or row.flops is None:
        return ""
    options = tuple(how.options.items())
    light, heavy = (
        _count(how.model, row.scale, options, (("budget", b),), _LR_SIZE).paper_flops
        for b in (0.0, 1.0)
    )
    published = parse_number(row.flops)[0] / size.pixels * math.prod(_LR_SIZE)
    return f"; here {100 * (published - light) / (heavy - light):.1f} % by the published figure"


def _uncounted(how: Recipe, scale: int, options: tuple[Item, ...]) -> int:
    """Parameters that the paper does not count."""
    if how.uncounted is None:
        return 0
    named = _net(how.model, scale, options).named_parameters()
    return sum(p.numel() for name, p in named if fnmatchcase(name, how.uncounted))


def _unavailable(model: str, scale: int) -> str | None:
    scales = next((info.scales for info in list_models() if info.name == model), None)
    if scales is None:
        return f"the model {model} is not in this version"
    return None if scale in scales else f"the model {model} has no scale {scale} in this version"


def _mean_flops(
    row: Row, how: Recipe, options: tuple[Item, ...], run: tuple[Item, ...]
) -> tuple[int | None, str | None]:
    """FLOPs on an image of the set's mean size."""
    size = mean_size(how.protocol, row.dataset, row.scale, how.crop)
    if size is None:
        return None, f"the image sizes of {row.dataset} at x{row.scale} are not known"
    flops = _count(how.model, row.scale, options, run, _LR_SIZE).paper_flops
    whole = flops
    if "k" in how.run:
        whole = _count(how.model, row.scale, options, (("k", 0),), _LR_SIZE).paper_flops
    ours = round(whole * size.pixels / math.prod(_LR_SIZE)) + flops - whole
    if size.crop == how.crop:
        return ours, how.caveat
    return ours, (
        f"the image sizes of {row.dataset} are not known, only their mean with sides a multiple "
        f"of {size.crop}, where this row has {how.crop}"
    )


@cache
def _count(
    model: str,
    scale: int,
    options: tuple[Item, ...],
    run: tuple[Item, ...],
    size: tuple[int, int],
) -> Complexity:
    return complexity(_net(model, scale, options), size, **dict(run))


def _net(model: str, scale: int, options: tuple[Item, ...]) -> nn.Module:
    with torch.device("meta"):  # shapes alone: a count needs no numbers
        return create_model(model, scale, **dict(options))
