"""Stages as bars: each where the one before ends, the whole call as a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparsesr.viz import save_figure, stage_bars, stage_words
from sparsesr.viz.plots import BLUE, GREEN, ORANGE

SIX = {
    "base": 0.010,
    "mask": 0.002,
    "select": 0.001,
    "gather": 0.001,
    "refine": 0.005,
    "scatter": 0.001,
}


def bars(figure: Any) -> list[tuple[float, float]]:
    """Start and length of every bar in ms, from the top."""
    (axes,) = figure.axes
    found = sorted(axes.patches, key=lambda bar: bar.get_y())
    return [(round(bar.get_x(), 6), round(bar.get_width(), 6)) for bar in found]


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_bars_follow_each_other() -> None:
    figure = stage_bars(SIX, 0.018, "title", "note")
    (axes,) = figure.axes
    assert bars(figure) == [(0, 10), (10, 2), (12, 1), (13, 1), (14, 5), (19, 1)]
    assert axes.get_ylim() == (5.5, -0.5)  # the first on top
    assert [label.get_text() for label in axes.get_yticklabels()] == list(SIX)
    assert texts(figure)[0] == "10 ms, 50.0 %"
    assert texts(figure)[4] == "5 ms, 25.0 %"
    assert texts(figure)[-1] == "one call: 18 ms"
    (line,) = axes.get_lines()
    assert line.get_xdata() == [18, 18]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["the whole image", "the choice", "what was chosen"]
    colours = [bar.get_facecolor() for bar in axes.patches]
    from matplotlib.colors import to_rgba

    assert colours == [to_rgba(c) for c in (BLUE, GREEN, GREEN, ORANGE, ORANGE, ORANGE)]


def test_words_stay_in_the_figure() -> None:
    for stages in (SIX, {"forward": 0.02}, {"encoder": 0.001, "samplers": 0.1, "average": 0.001}):
        figure = stage_bars(stages, 0.02, "", "")
        figure.canvas.draw()
        (axes,) = figure.axes
        inside = axes.get_window_extent()
        for text in axes.texts[:-1]:
            box = text.get_window_extent()
            assert inside.x0 <= box.x0
            assert box.x1 <= inside.x1


def test_a_fused_stage_says_what_it_holds() -> None:
    fused = {name: SIX[name] for name in ("base", "mask", "select", "refine")}
    assert list(stage_words(SIX).values()) == list(SIX)
    assert stage_words(fused)["refine"] == "refine (gather + refine + scatter)"
    (axes,) = stage_bars(fused, 0.01, "", "").axes
    assert axes.get_yticklabels()[-1].get_text() == "refine\n(gather + refine + scatter)"


def test_one_stage_other_stages_none_and_no_time(tmp_path: Path) -> None:
    alone = stage_bars({"forward": 2.5}, 2.5, "", "")
    assert texts(alone) == ["2,500 ms, 100.0 %", "one call: 2,500 ms"]
    assert not alone.legends
    save_figure(stage_bars({"mine": 0.001, "base": 0.0}, 0.002, "", ""), tmp_path / "f.png")
    assert texts(stage_bars({"base": 0.0}, 0.0, "", ""))[0] == "0 ms, -"
    with pytest.raises(ValueError, match="at least one stage"):
        stage_bars({}, 1, "", "")
