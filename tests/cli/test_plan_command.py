"""``plan``: the table, what it says to use, JSON, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sparsesr.cli.plan import verdict_lines

Run = Callable[..., Any]
SMALL = ("--size", "40x24", "-s", 2, "--repeats", 1)


def test_table(run: Run) -> None:
    result = run("plan", "-m", "fsrcnn", *SMALL, "-k", "1, 50%,all", "--splits", "3+1")
    assert result.code == 0, result.err
    for text in ("fsrcnn x2, LR 40x24, 60 patches", "mga-light", "50.0 %", "Use fsrcnn-", "median"):
        assert text in result.out


def test_json(run: Run) -> None:
    result = run("plan", "-m", "fsrcnn-mga-x2", "--size", "40x24", "--repeats", 1, "--json")
    document = result.json()
    assert (document["family"], document["scale"]) == ("fsrcnn", 2)
    assert document["lr_size"] == [24, 40]
    assert {tuple(row["split"]) for row in document["rows"]} == {(3, 1), (2, 2)}
    assert document["use"]


def test_words() -> None:
    def row(model: str, coverage: float | None) -> dict[str, Any]:
        return {"model": model, "split": [3, 1], "coverage": coverage}

    document = {
        "rows": [row("d", None), row("m", 0.0), row("m", 0.5)],
        "break_even": [
            {
                "model": "m",
                "split": [3, 1],
                "macs": {"verdict": "crosses", "coverage": 0.25},
                "seconds": {"verdict": "cheaper", "coverage": None},
            }
        ],
        "use": [{"model": "m", "up_to": 0.5}],
    }
    assert verdict_lines(document) == [
        "m (3+1): in multiply-adds equals d at 25.0 % of the patches; in time below d up to 50 % "
        "of the patches, the most measured",
        "Use m up to 50 % of the patches, the most measured.",
    ]
    document["use"] = [{"model": "m", "up_to": 0.25}, {"model": "d", "up_to": 1.0}]
    assert verdict_lines(document)[-1] == "Use m up to 25 % of the patches, d above."
    document["use"] = [{"model": "d", "up_to": 1.0}]
    assert verdict_lines(document)[-1].startswith("Use d: no form that refines patches is faster")
    document["use"] = []
    assert len(verdict_lines(document)) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--size", "big"), "expected WIDTHxHEIGHT such as 480x270"),
        (("-m", "smsr"), "expected one of MGA's families"),
        (("-m", "fsrcnn-mga-x4", "-s", 2), "is for scale 4, got --scale 2"),
        (("--splits", "12"), "expected blocks such as 12+4"),
        (("-k", "some"), "expected values such as 240"),
        (("--backend", "abacus"), "unknown backend"),
    ],
)
def test_what_it_refuses(run: Run, options: tuple, text: str) -> None:
    result = run("plan", *options)
    assert (result.code, result.out) == (2, "")
    assert text in result.err
