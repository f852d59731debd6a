"""The coverage at which a sparse network costs as much as a dense one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def break_even(
    coverages: Sequence[float], costs: Sequence[float], psnrs: Sequence[float], rival: float
) -> dict[str, Any]:
    """Where a curve of measured points reaches the cost of a rival, on straight lines between them.

    Args:
        coverages: of the points, ascending. costs: seconds or multiply-adds. psnrs: dB.
        rival: cost of the dense network.

    Returns:
        {"verdict": "crosses", "coverage", "psnr"} for the first crossing; with "cheaper" where the
        network costs less at every point and "dearer" where it does at none, both are None.

    Example:
        >>> break_even([0.0, 0.5], [1.0, 3.0], [30.0, 31.0], 2.0)
        {'verdict': 'crosses', 'coverage': 0.25, 'psnr': 30.5}
    """
    if costs[0] >= rival:
        return {"verdict": "dearer", "coverage": None, "psnr": None}
    for i in range(1, len(costs)):
        if costs[i] >= rival:
            share = (rival - costs[i - 1]) / (costs[i] - costs[i - 1])
            between = [
                values[i - 1] + share * (values[i] - values[i - 1]) for values in (coverages, psnrs)
            ]
            return {"verdict": "crosses", "coverage": between[0], "psnr": between[1]}
    return {"verdict": "cheaper", "coverage": None, "psnr": None}


def in_words(found: dict[str, Any], rival: str, parts: str, highest: float) -> str:
    """A verdict of ``break_even`` as a clause.

    Args:
        rival: name of the dense network. parts: "patches" or "pixels". highest: coverage measured.

    Example:
        >>> in_words(break_even([0.0, 0.5], [1.0, 3.0], [30, 31], 2.0), "D-Net", "patches", 0.5)
        'equals D-Net at 25.0 % of the patches'
    """
    if found["verdict"] == "crosses":
        return f"equals {rival} at {100 * found['coverage']:.1f} % of the {parts}"
    if found["verdict"] == "dearer":
        return f"above {rival} at any coverage"
    return f"below {rival} up to {100 * highest:.0f} % of the {parts}, the most measured"
