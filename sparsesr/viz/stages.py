"""Where the time of a call goes: its stages one after the other, the whole call beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sparsesr.viz.plots import BLUE, GREEN, GREY, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FUSED = "refine (gather + refine + scatter)"
_KINDS = (
    ("the whole image", BLUE, ("base", "encoder", "forward")),
    ("the choice", GREEN, ("mask", "select", "classifier", "choice")),
    ("what was chosen", ORANGE, ("gather", "refine", "scatter", "samplers", "average")),
)
_ROOM = 0.24  # of the figure's width, for the words of a bar
_PAPER: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.9, "pad": 0.8}


def stage_words(stages: Iterable[str]) -> dict[str, str]:
    """What each stage of ``inference.profile`` is called: a fused one names those that it holds.

    Example:
        >>> stage_words(["base", "mask", "select", "refine"])["refine"]
        'refine (gather + refine + scatter)'
        >>> stage_words(["base", "mask", "select", "gather", "refine", "scatter"])["refine"]
        'refine'
    """
    names = list(stages)
    fused = "refine" in names and "gather" not in names
    return {name: _FUSED if fused and name == "refine" else name for name in names}


def stage_bars(stages: Mapping[str, float], total: float, title: str, note: str) -> Figure:
    """A bar for each stage that starts where the one before ends, with its time and share.

    Args:
        stages: name -> seconds, in order, as ``inference.profile`` gives them.
        total: seconds of one whole call, drawn as a line; it need not be the sum.
        title: above the bars. note: below them, such as how time was taken.

    Returns:
        A matplotlib figure of one panel; ``save_figure`` writes it.

    Raises:
        ValueError: no stages.
    """
    if not stages:
        raise ValueError("stage_bars: expected at least one stage, got none")
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = new_figure(9, 1.9 + 0.42 * len(stages))
    words = stage_words(stages)
    summed = sum(stages.values())
    end = 1e3 * max(summed, total) or 1.0
    axes.set_xlim(0, 1.02 * end)
    start = 0.0
    for row, (name, seconds) in enumerate(stages.items()):
        share = f"{100 * seconds / summed:.1f} %" if summed else "-"
        _bar(axes, row, name, (start, 1e3 * seconds), share)
        start += 1e3 * seconds
    _whole_call(axes, 1e3 * total, end)
    axes.set_yticks(range(len(stages)), [words[name].replace(" (", "\n(") for name in stages])
    axes.set_ylim(len(stages) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("ms; each stage is timed alone and drawn where the one before it ends")
    figure.suptitle(title, fontsize=11)
    figure.supxlabel(note, fontsize=7.5, color=GREY)
    if len(stages) > 1:
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure


def _bar(axes: Axes, row: int, name: str, span: tuple[float, float], share: str) -> None:
    """One stage: its bar from ``span[0]``, ``span[1]`` ms long, and its words where there is room.

    They stand after the bar in the left part of the figure, before it in the right one, and in it
    where it leaves no room.
    """
    kinds = ((kind, colour) for kind, colour, names in _KINDS if name in names)
    kind, colour = next(kinds, ("other", GREY))
    drawn = {bar.get_label() for bar in axes.containers}
    label = kind if kind not in drawn else f"_{name}"  # one entry of the legend for each kind
    start, length = span
    axes.barh(row, length, left=start, height=0.62, color=colour, label=label, zorder=2)
    room = axes.get_xlim()[1]
    place: dict[str, Any] = {"ha": "center", "color": "white"}
    at, shift = start + length / 2, 0
    if start + length < (1 - _ROOM) * room or start > _ROOM * room:
        after = start + length < (1 - _ROOM) * room
        at, shift = (start + length, 5) if after else (start, -5)
        place = {"ha": "left" if after else "right", "bbox": _PAPER}
    axes.annotate(
        f"{_number(length)} ms, {share}",
        (at, row),
        (shift, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        zorder=4,
        **place,
    )


def _whole_call(axes: Axes, milliseconds: float, end: float) -> None:
    axes.axvline(milliseconds, color=GREY, linestyle="--", linewidth=1.2, zorder=3)
    axes.annotate(
        f"one call: {_number(milliseconds)} ms",
        (milliseconds, 1),
        (0, 3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right" if milliseconds > 0.5 * end else "left",
        fontsize=9,
        color=GREY,
    )


def _number(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 1000 else f"{milliseconds:.3g}"
