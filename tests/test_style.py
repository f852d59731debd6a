"""Formatters, linters and types: the rules of the project are checked where everything is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


def _run(root: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command[:3])}\n{done.stdout}{done.stderr}"


def _needs(module: str) -> None:
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install -e .[dev]")


def test_ruff_check(root: Path) -> None:
    _needs("ruff")
    _run(root, sys.executable, "-m", "ruff", "check", ".")


def test_ruff_format(root: Path) -> None:
    _needs("ruff")
    _run(root, sys.executable, "-m", "ruff", "format", "--check", ".")


def test_mypy(root: Path) -> None:
    _needs("mypy")
    _run(root, sys.executable, "-m", "mypy")


def test_clang_format(root: Path) -> None:
    program = shutil.which("clang-format", path=str(Path(sys.executable).parent))
    program = program or shutil.which("clang-format")
    if program is None:
        pytest.skip("clang-format is not installed: pip install -e .[dev]")
    files = [
        str(p) for p in (root / "csrc").rglob("*") if p.suffix in {".cpp", ".h", ".cu", ".cuh"}
    ]
    _run(root, program, "--dry-run", "-Werror", *files)
