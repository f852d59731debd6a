"""Quality against cost: the curve of a sparse network, and the dense one that it has to beat."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sparsesr.viz.plots import BLUE, GREEN, GREY, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FLOOR = "1 patch"
_NEVER = {
    "dearer": "no break-even: above the dense network at any coverage",
    "cheaper": "no break-even: below the dense network up to the highest coverage measured",
}

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
    _panel(work, document, lambda part: part["mean"]["macs"] / 1e9, found["macs"])
    _panel(time, document, lambda part: 1e3 * part["seconds"], found["seconds"])
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
    cost: Callable[[dict[str, Any]], float],
    found: dict[str, Any] | None,
) -> None:
    shown = _with_floor(document)
    at = [(cost(point), point["mean"]["psnr"]) for point in shown]
    axes.plot(*zip(*at, strict=True), "o-", color=BLUE, label=document["model"], zorder=3)
    for point, place in zip(shown, at, strict=True):
        around: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "zorder": 6}
        if point["value"] == _FLOOR:
            around |= {"xytext": (0, -13), "ha": "center"}
        else:
            around |= {"xytext": (-6, 4), "ha": "right"}
        axes.annotate(_label(point), place, bbox=_PAPER, **around)
    if document["dense"] is not None:
        _rival(axes, document["dense"], cost(document["dense"]), found)
    axes.margins(x=0.16, y=0.14)


def _rival(axes: Axes, dense: dict[str, Any], cost: float, found: dict[str, Any] | None) -> None:
    """The dense network, and where the curve costs as much."""
    axes.axvline(cost, color=ORANGE, linestyle="--", linewidth=1, zorder=1)
    name = f"{dense['model']} (dense)"
    if "psnr" in dense["mean"]:
        axes.plot(
            cost, dense["mean"]["psnr"], "s", color=ORANGE, markersize=8, label=name, zorder=4
        )
    else:
        axes.plot([], [], "--", color=ORANGE, label=f"{name}: cost alone, untrained")
    if found is None:
        return
    if found["verdict"] != "crosses":
        axes.set_title(_NEVER[found["verdict"]], fontsize=9, color=GREEN)
    else:
        at = (cost, found["psnr"])
        star: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 1.6, "zorder": 5}
        axes.plot(*at, "*", color=GREEN, markersize=15, label="break-even", **star)
        text = f"break-even at {100 * found['coverage']:.1f} %"
        words: dict[str, Any] = {"color": GREEN, "fontsize": 9, "bbox": _PAPER, "zorder": 6}
        axes.annotate(text, at, (11, -15), textcoords="offset points", **words)


def _with_floor(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The points, and after one that refines nothing the step to one patch: the mask's own cost."""
    first, *others = document["points"]
    floor = document["floor"]
    if first["mean"]["coverage"] > 0 or floor["mean"]["coverage"] == 0:
        return [first, *others]
    step = {**floor, "value": _FLOOR, "mean": {**floor["mean"], "psnr": first["mean"]["psnr"]}}
    return [first, step, *others]


def _label(point: dict[str, Any]) -> str:
    """The value, and its coverage where the value does not say it."""
    coverage = point["mean"]["coverage"]
    if point["value"].endswith("%") or point["value"] in ("all", _FLOOR) or coverage == 0:
        return point["value"].replace("%", " %")
    return f"{point['value']} ({100 * coverage:.0f} %)"
