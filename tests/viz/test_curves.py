"""Curves: every point where it was measured, the rival and the break-even where they are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsesr.io import OutputExistsError, read_image
from sparsesr.viz import save_figure, sweep_curves


def document(dense: bool = True, trained: bool = True, verdict: str = "crosses") -> dict[str, Any]:
    points = [
        {"value": value, "mean": {"psnr": psnr, "coverage": share, "macs": macs}, "seconds": taken}
        for value, psnr, share, macs, taken in (
            ("0", 30.0, 0.0, 1e9, 0.010),
            ("60", 30.4, 0.2, 2e9, 0.015),
            ("all", 30.6, 1.0, 4e9, 0.040),
        )
    ]
    mean = {"macs": 2.5e9} | ({"psnr": 30.1} if trained else {})
    found = {"verdict": verdict, "coverage": 0.4, "psnr": 30.45}
    return {
        "model": "net-x4",
        "points": points,
        "floor": {"mean": {"coverage": 0.01, "macs": 1.5e9}, "seconds": 0.012},
        "dense": {"model": "dnet-x4", "mean": mean, "seconds": 0.02} if dense else None,
        "break_even": {"macs": found, "seconds": found} if dense else None,
    }


def lines(panel: Any) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): list(map(tuple, line.get_xydata())) for line in panel.get_lines()}


def test_panels_show_what_was_measured() -> None:
    work, time = sweep_curves(document(), "title", "note").axes
    assert lines(work)["net-x4"] == [(1, 30.0), (1.5, 30.0), (2, 30.4), (4, 30.6)]
    assert lines(time)["net-x4"] == [(10, 30.0), (12, 30.0), (15, 30.4), (40, 30.6)]
    assert lines(work)["dnet-x4 (dense)"] == [(2.5, 30.1)]
    assert lines(work)["break-even"] == [(2.5, 30.45)]
    assert lines(time)["break-even"] == [(20, 30.45)]
    words = {text.get_text() for text in work.texts}
    assert words == {"0", "1 patch", "60 (20 %)", "all", "break-even at 40.0 %"}


def test_no_step_where_nothing_is_left_out() -> None:
    routed = document()
    routed["floor"]["mean"]["coverage"] = 0
    dense_start = document()
    dense_start["points"] = dense_start["points"][1:]
    for given, count in ((routed, 3), (dense_start, 2)):
        work, _ = sweep_curves(given, "", "").axes
        assert len(lines(work)["net-x4"]) == count


def test_no_break_even_no_weights_no_rival() -> None:
    for verdict, words in (("cheaper", "below the dense"), ("dearer", "above the dense")):
        work, _ = sweep_curves(document(verdict=verdict), "", "").axes
        assert "break-even" not in lines(work)
        assert words in work.get_title()
    work, _ = sweep_curves(document(trained=False), "", "").axes
    assert lines(work)["dnet-x4 (dense): cost alone, untrained"] == []
    work, _ = sweep_curves(document(dense=False), "", "").axes
    assert list(lines(work)) == ["net-x4"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_figures_are_written_whole(tmp_path: Path, suffix: str) -> None:
    figure = sweep_curves(document(), "title", "note")
    file = tmp_path / f"f{suffix}"
    save_figure(figure, file)
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert file.read_bytes().startswith(start)
    with pytest.raises(OutputExistsError):
        save_figure(figure, file)
    save_figure(figure, file, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    if suffix == ".png":
        assert np.ptp(read_image(file)) > 200


def test_unknown_suffix_and_infinite_quality(tmp_path: Path) -> None:
    figure = sweep_curves(document(), "title", "note")
    for name in ("f.gif", "f"):
        with pytest.raises(ValueError, match=r"ends in \.png, \.svg, \.pdf, got"):
            save_figure(figure, tmp_path / name)
    perfect = document()
    perfect["points"][2]["mean"]["psnr"] = math.inf
    save_figure(sweep_curves(perfect, "", ""), tmp_path / "f.png")
