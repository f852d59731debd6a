"""`tools/gpu_check`: steps are bounded, every step's outcome is kept, a cut run leaves a result."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture
def tool(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if not (root / "tools").is_dir():
        pytest.skip("no tools/ here (installed package)")
    spec = importlib.util.spec_from_file_location("gpu_check", root / "tools" / "gpu_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)
    spec.loader.exec_module(module)
    return module


def _script(tool: ModuleType, name: str, code: str, limit: float = 60.0) -> object:
    return tool.Step(name, [sys.executable, "-c", code], limit)


def test_outcomes(tool: ModuleType) -> None:
    good = _script(tool, "good", "print('fine')")
    tool.run(good, 60)
    assert (good.status, good.output.strip()) == ("passed", "fine")
    bad = _script(tool, "bad", "raise SystemExit(7)")
    tool.run(bad, 60)
    assert bad.status == "failed: exit code 7"
    absent = tool.Step("absent", ["no-such-program"], 60)
    tool.run(absent, 60)
    assert absent.status == "skipped: no no-such-program on PATH"


def test_a_step_and_its_children_are_stopped(tool: ModuleType, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    step = _script(
        tool, "slow", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    )
    tool.run(step, 3)
    assert step.status == "stopped after 3 s"
    gone = Path(f"/proc/{pid.read_text()}")
    deadline = time.monotonic() + 10
    while gone.exists() and "zombie" not in (gone / "status").read_text():
        assert time.monotonic() < deadline, "the child still runs"
        time.sleep(0.05)


def test_a_cut_run_leaves_what_it_has(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned(bench_files: Path) -> list:
        rows = f"open({str(bench_files / 'float32.json')!r}, 'w').write('[1, 2]')"
        return [
            _script(tool, "build", "pass"),
            _script(tool, "bench float32", rows),
            _script(tool, "suite", "import time; time.sleep(60)", limit=2),
        ]

    monkeypatch.setattr(tool, "planned", planned)
    monkeypatch.setattr(tool, "facts", lambda: {"gpu": "none"})
    path = tmp_path / "gpu-test.json"
    assert tool.check(path, {"build", "bench", "suite"}, 5, tmp_path / "copy") == 1
    saved = json.loads(path.read_text())
    assert [s["status"] for s in saved["steps"]] == ["passed", "passed", "stopped after 2 s"]
    assert saved["gpu"] == "none"
    assert saved["benches"] == {"float32": [1, 2]}
    assert (tmp_path / "copy" / path.name).read_text() == path.read_text()
    # No time at all: the result says so.
    assert tool.check(path, {"build", "suite"}, 0, None) == 1
    assert "no time left" in json.loads(path.read_text())["steps"][0]["status"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is present")
def test_without_a_gpu(tool: ModuleType, root: Path) -> None:
    command = [root / "tools" / "gpu_check"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHON": sys.executable}
    )
    assert done.returncode == 3
    assert "torch sees no CUDA GPU" in done.stderr
