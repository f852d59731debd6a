"""``sparsesr tables``: the table for people, the document for programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sparsesr.tables import compare_tables

pytest.importorskip("thop")


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def test_json(run: Callable[..., Any]) -> None:
    result = run("tables", "--paper", "drsan", "--json")
    assert result.code == 0, result.err
    assert result.json() == compare_tables(["drsan"])
    keys = "paper table variant scale dataset quantity published published_text ours error_percent"
    assert all(list(row) == [*keys.split(), "reproduced", "reason"] for row in result.json())


def test_table(run: Callable[..., Any]) -> None:
    result = run("tables", "--paper", "drsan")
    assert result.code == 0, result.err
    for title in ("DRSAN, Table II", "DRSAN, Table V", "DRSAN, Table VII"):
        assert title in result.out
    (line,) = [text for text in result.out.splitlines() if text.split()[:1] == ["DRA+RSA+Concat"]]
    expected = ["DRA+RSA+Concat", "x2", "Urban100", "params", "377", "K", "376,879"]
    assert line.split() == [*expected, "-0.032", "%", "yes"]
    assert "[1] row is illegible in our copy" in result.out
    assert "no [1]" in result.out
    rows = compare_tables(["drsan"])
    done = sum(row["reproduced"] for row in rows)
    assert f"{done} of {len(rows)} figures reproduced" in result.out


def test_papers(run: Callable[..., Any]) -> None:
    """The option may be repeated; supplement tables keep their name."""
    result = run("tables", "--paper", "smsr", "--paper", "DRSAN")
    assert "SMSR, supp Table II" in result.out
    assert "DRSAN, Table II" in result.out
    wrong = run("tables", "--paper", "vdsr", "--json")
    assert (wrong.code, wrong.out) == (2, "")
    assert "unknown paper 'vdsr'; expected mga, smsr, pcsr, drsan" in wrong.err


def test_nothing_to_compute_is_quick_and_complete(run: Callable[..., Any]) -> None:
    """Every row of a paper without a model here still says why."""
    rows = run("tables", "--paper", "smsr", "--json").json()
    assert len(rows) == 6 + 2 * 48
    assert all(row["reproduced"] or row["reason"] for row in rows)
