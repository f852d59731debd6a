"""The mask that was predicted beside the one that would be right, and what refinement changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparsesr.viz.plots import BLUE, ORANGE, new_figure
from sparsesr.viz.strip import comparison_strip

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = "inferno"  # rises evenly in lightness, for any eye and in print


def mask_panels(
    coarse: np.ndarray,  # [H, W, 3] uint8
    target: np.ndarray,  # [Gh, Gw]
    predicted: np.ndarray,  # [Gh, Gw]
    change: np.ndarray,  # [H, W]
    l1: float,
) -> np.ndarray:
    """Coarse image, ground-truth mask, predicted mask and |refined - coarse| on Y, two in a row.

    Args:
        coarse: [H, W, 3] uint8, sides whole multiples of the masks'.
        target: what the mask should say, [Gh, Gw] in [0, 1].
        predicted: what it says; shown between 0 and 1.
        change: |refined - coarse| on Y, 0..255; shown up to its 99.5th percentile.
        l1: mean |predicted - target|.

    Returns:
        [h, w, 3] uint8.

    Raises:
        ValueError: sizes that do not match.

    Source: MGA (Hu et al., ECCV 2022), figure 6.
    """
    if target.shape != predicted.shape or change.shape != coarse.shape[:2]:
        raise ValueError(
            f"mask_panels: expected masks of one size and a change of the image's, got "
            f"{target.shape}, {predicted.shape}, {change.shape} and {coarse.shape}"
        )
    top = max(1.0, float(np.percentile(change, 99.5)))
    return comparison_strip(
        [
            ("coarse image", coarse),
            (f"|refined - coarse| on Y, brightest: {top:.1f} of 255", _coloured(change / top)),
            ("ground-truth mask", _coloured(target)),
            (f"predicted mask, mean L1 {l1:.4f}", _coloured(predicted)),
        ],
        columns=2,
    )


def _coloured(values: np.ndarray) -> np.ndarray:
    """[H, W] in [0, 1] as colours [H, W, 3] uint8."""
    from matplotlib import colormaps

    return colormaps[_COLOURS](np.clip(values, 0, 1), bytes=True)[..., :3]


def change_histogram(counts: np.ndarray, bins_per_level: int, title: str) -> Figure:
    """How many pixels refinement changes, and by how much; counts on a logarithmic axis.

    Args:
        counts: pixels by |refined - coarse| on Y, from 0 on, ``bins_per_level`` to a level of 255.
        title: above the figure.

    Source: MGA (Hu et al., ECCV 2022), figure 2.
    """
    figure, (axes,) = new_figure(7, 4)
    last = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 1
    edges = np.arange(last + 1) / bins_per_level
    small = edges[:-1] < 1
    shares = 100 * counts[:last] / max(1, counts.sum())
    width = 1 / bins_per_level
    for part, colour, words in ((small, BLUE, "below one level"), (~small, ORANGE, "more")):
        label = f"{words}: {shares[part].sum():.1f} % of the pixels"
        left, heights = edges[:-1][part], counts[:last][part]
        axes.bar(left, heights, width, align="edge", color=colour, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("|refined - coarse| on Y, levels of 255 (before rounding)")
    axes.set_ylabel("pixels")
    axes.set_xlim(0, max(1.0, edges[-1]))
    axes.legend(frameon=False)
    figure.suptitle(title, fontsize=11)
    return figure
