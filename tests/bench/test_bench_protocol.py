"""The measuring itself: turns, medians, verification, tables, results files."""

from __future__ import annotations

import json
from pathlib import Path

import _protocol
import pytest
import torch
from _protocol import Timing, interleave, pick_clock, verify
from _report import Report, Table


def test_contenders_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every round times each of them once, and starts with another one."""
    order: list[str] = []
    contenders = {name: (lambda name=name: order.append(name)) for name in "abc"}
    monkeypatch.setattr(_protocol, "_seconds", lambda call: 1.0)
    timings = interleave(contenders, rounds=3)
    assert "".join(order) == "abc" + "bca" + "cab"
    assert {t.rounds for t in timings.values()} == {3}


def test_medians_and_quartiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slow round does not move the figure."""
    ticks = iter([0, 1, 10, 12, 20, 23, 30, 34, 40, 140])
    monkeypatch.setitem(_protocol.CLOCKS, "cpu", lambda: float(next(ticks)))
    monkeypatch.setattr(_protocol, "_seconds", lambda call: 1.0)
    (timing,) = interleave({"a": lambda: None}, rounds=5).values()
    assert (timing.minimum, timing.lower, timing.median, timing.upper) == (1, 2, 3, 4)
    assert timing.spread == pytest.approx(2 / 3)


def test_short_calls_are_warmed_and_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample lasts as long as asked, after one untimed call."""
    calls: list[int] = []
    monkeypatch.setattr(_protocol, "_seconds", lambda call: 1e-4)
    timings = interleave({"short": lambda: calls.append(1)}, rounds=2, block=1e-3)
    assert timings["short"].calls == 10
    assert len(calls) == 2 * (1 + 10)


def test_the_clock() -> None:
    """CPU time is right for one thread only."""
    assert pick_clock("auto", 1) == "cpu"
    assert pick_clock("auto", 2) == "wall"
    assert pick_clock("wall", 1) == "wall"


@pytest.mark.parametrize(
    ("contenders", "rounds", "clock", "message"),
    [
        ({}, 1, "cpu", "expected contenders"),
        ({"a": int}, 0, "cpu", "got 0 rounds"),
        ({"a": int}, 1, "sun", "expected clock 'cpu' or 'wall', got 'sun'"),
    ],
)
def test_bad_input(contenders: dict, rounds: int, clock: str, message: str) -> None:
    """Refused before anything runs."""
    with pytest.raises(ValueError, match=message):
        interleave(contenders, rounds=rounds, clock=clock)


def test_wrong_outputs_stop_the_bench() -> None:
    """NaN, another shape, a difference beyond the tolerance."""
    want = torch.ones(1, 2, 4, 4)
    verify("same", want.clone(), want)
    verify("empty", want[:0], want[:0])
    verify("close", want + 1e-6, want, atol=1e-5)
    one_off = want.clone()
    one_off[0, 0, 0, 0] = 3
    verify("one patch swapped", one_off, want, outliers=1 / 32)
    with pytest.raises(AssertionError, match=r"off: 3.12 % of the values differ by more than 0"):
        verify("off", one_off, want)
    with pytest.raises(AssertionError, match="nan"):
        verify("nan", want * float("nan"), want, atol=1.0)
    with pytest.raises(AssertionError, match="shape"):
        verify("shape", want[0], want)


def test_a_table_lines_up_and_leaves_gaps() -> None:
    """Columns of later rows are added; missing cells are empty."""
    table = Table("title", [{"K": "5", "op us": "1.0"}, {"K": "1000", "goals": "met"}], ["note"])
    assert table.lines() == [
        "title",
        "   K  op us  goals",
        "   5    1.0",
        "1000           met",
        "note",
    ]


def test_a_results_file(tmp_path: Path) -> None:
    """Facts, printed tables, one raw row per contender."""
    facts = {"threads": 1, "dtype": "float32", "clock": "cpu", "malloc": "warm", "torch": "2"}
    report = Report({"machine": "m", **facts})
    timing = Timing(2.0, 1.0, 3.0, 0.5, 5, 7)
    report.record("gather_patches", {"k": 3}, {"op": timing, "paper": timing})
    report.table("gather_patches", "title").rows.append({"K": "3"})
    path = tmp_path / "results" / "run.json"
    report.save(path)
    saved = json.loads(path.read_text())
    assert saved["machine"] == "m"
    assert saved["tables"]["gather_patches"]["rows"] == [{"K": "3"}]
    assert [row["contender"] for row in saved["rows"]] == ["op", "paper"]
    assert saved["rows"][0]["seconds"] == timing.as_dict()
    assert {name: saved["rows"][1][name] for name in facts} == facts
    assert [p.name for p in path.parent.iterdir()] == ["run.json"]
