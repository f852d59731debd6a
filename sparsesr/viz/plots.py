"""Figures with axes: colours that the colour-blind tell apart, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sparsesr.io import atomic_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE_SUFFIXES = (".png", ".svg", ".pdf")

# Okabe and Ito's colours.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#5F5F5F"


def new_figure(width: float, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of that size in inches and its panels in a row; no window, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#E3E3E3", linewidth=0.7)
        panel.set_axisbelow(True)
    return figure, axes


def check_figure_name(path: str | Path) -> Path:
    """ValueError unless the suffix is one that figures are written in."""
    path = Path(path)
    if path.suffix.lower() not in FIGURE_SUFFIXES:
        raise ValueError(
            f"{path}: expected a figure name that ends in {', '.join(FIGURE_SUFFIXES)}, "
            f"got {path.suffix or 'no suffix'}"
        )
    return path


def save_figure(figure: Figure, path: str | Path, overwrite: bool = False) -> None:
    """Write a figure as its name's suffix says.

    Raises:
        ValueError: an unknown suffix. OutputExistsError: it exists and ``overwrite`` is False.
    """
    path = check_figure_name(path)
    with atomic_output(path, overwrite) as part:
        figure.savefig(part, format=path.suffix[1:].lower())
