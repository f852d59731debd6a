"""`pytest bench/ --quick` from a shell: collected, verified, timed, summarised."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pytest_benchmark")
ROOT = Path(__file__).resolve().parents[2]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        check=False, timeout=240,  # a guard against hanging, on a busy machine too
    )  # fmt: skip


def test_quick_run() -> None:
    """Every file is collected; its table names the machine and shows every contender."""
    done = _run("bench/", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    for path in (ROOT / "bench").glob("bench_*.py"):
        assert f"{path.name} ." in done.stdout
    assert "medians of interleaved runs" in done.stdout
    for fact in ("machine", "commit", "clock cpu", "threads 1", "torch", "conv64_gflops"):
        assert fact in done.stdout
    for column in ("paper/op", "memcpy GB/s", "reference us", "op/clone", "vs lean", "floor ms"):
        assert column in done.stdout
    for column in ("vs own", "x chunked", "x layered", "% peak", "kept lean", "GFLOP/s"):
        assert column in done.stdout
    for row in ("sparsesr layered", "sparsesr fused", "mga-light", "carn-pcsr encoder"):
        assert row in done.stdout
    assert "break-even" in done.stdout


def test_a_taken_name_is_refused() -> None:
    """A results file is never overwritten."""
    taken = sorted(path.stem for path in (ROOT / "bench" / "results").glob("*.json"))
    if not taken:
        pytest.skip("no results are kept yet")
    done = _run("bench/bench_select_patches.py", "--save-results", taken[0])
    assert done.returncode == 4
    assert f"{taken[0]}.json exists; choose another name" in done.stderr
