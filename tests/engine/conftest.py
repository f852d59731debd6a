"""Programs without native kernels: the engine is told that the reference is one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sparsesr import ops
from sparsesr.engine import execution

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))  # small_nets


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the ops that the engine called, on any dtype and any backend."""
    monkeypatch.delenv("SPARSESR_EXECUTOR", raising=False)
    monkeypatch.setattr(execution, "natively", lambda op, x: x.is_cpu)
    made: list[str] = []
    for name in ("run_program", "refine_patches_"):
        op = getattr(ops, name)

        def recorded(*args: Any, _op: Any = op, _name: str = name) -> Any:
            made.append(_name)
            return _op(*args)

        monkeypatch.setattr(ops, name, recorded)
    return made
