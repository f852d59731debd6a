"""Quality against cost: the curve of a sparse network, and the dense one that it has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparsesr.viz.plots import BLUE, GREEN, GREY, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Behind words, so that lines do not cross them out.
_PAPER: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}


def sweep_curves(document: dict[str, Any], title: str, note: str) -> Figure:
    """PSNR against multiply-adds and against time, a point for each value, break-even marked.

    Args:
        document: of ``sparsesr.inference.sweep``.
        title: above both panels. note: below them, such as how time was taken.

    Returns:
        A matplotlib figure of two panels; ``save_figure`` writes it.
    """
    figure, (work, time) = new_figure(10, 4.6, panels=2)
    found = document["break_even"] or {"macs": None, "seconds": None}
    macs = [point["mean"]["macs"] / 1e9 for point in document["points"]]
    milliseconds = [1e3 * point["seconds"] for point in document["points"]]
    dense = document["dense"]
    dense_macs = dense and dense["mean"]["macs"] / 1e9
    dense_time = dense and 1e3 * dense["seconds"]
    _panel(work, document, macs, dense_macs, found["macs"])
    _panel(time, document, milliseconds, dense_time, found["seconds"])
    work.set_xlabel("true multiply-adds per image, G")
    time.set_xlabel("measured time per image, ms")
    work.set_ylabel("PSNR, dB")
    time.sharey(work)
    work.legend(loc="lower right", frameon=True, framealpha=0.9, fontsize=8)
    figure.suptitle(title, fontsize=11)
    figure.supxlabel(note, fontsize=7.5, color=GREY)
    return figure


def _panel(
    axes: Axes,
    document: dict[str, Any],
    costs: list[float],
    dense_cost: float | None,
    found: dict[str, Any] | None,
) -> None:
    points, dense = document["points"], document["dense"]
    psnrs = [point["mean"]["psnr"] for point in points]
    axes.plot(costs, psnrs, "o-", color=BLUE, label=document["model"], zorder=3)
    for point, cost, psnr in zip(points, costs, psnrs, strict=True):
        place: dict[str, Any] = {
            "textcoords": "offset points",
            "ha": "right",
            "fontsize": 8,
            "zorder": 6,
        }
        axes.annotate(_label(point), (cost, psnr), (-6, 4), bbox=_PAPER, **place)
    if dense is not None and dense_cost is not None:
        axes.axvline(dense_cost, color=ORANGE, linestyle="--", linewidth=1, zorder=1)
        psnr = dense["mean"].get("psnr")
        name = f"{dense['model']} (dense)"
        if psnr is None:
            axes.plot([], [], "--", color=ORANGE, label=f"{name}: cost alone, untrained")
        else:
            axes.plot(dense_cost, psnr, "s", color=ORANGE, markersize=8, label=name, zorder=4)
    if found is not None and found["verdict"] == "crosses":
        at = (dense_cost or 0.0, found["psnr"])
        star: dict[str, Any] = {
            "color": GREEN,
            "markersize": 15,
            "markerfacecolor": "none",
            "markeredgewidth": 1.6,
        }
        axes.plot(*at, "*", label="break-even", zorder=5, **star)
        text = f"break-even at {100 * found['coverage']:.1f} %"
        words: dict[str, Any] = {"color": GREEN, "fontsize": 9, "bbox": _PAPER, "zorder": 6}
        axes.annotate(text, at, (11, -15), textcoords="offset points", **words)
    axes.margins(x=0.1, y=0.14)


def _label(point: dict[str, Any]) -> str:
    """The value, and its coverage where the value does not say it."""
    if point["value"].endswith("%") or point["value"] == "all":
        return point["value"].replace("%", " %")
    return f"{point['value']} ({100 * point['mean']['coverage']:.0f} %)"
