"""The op tests and this folder's, in Triton's interpreter: kernels without a GPU.

The interpreter takes about 50 ms a launch, so a part of tests/ops is left out here: numerical
Jacobians (thousands of launches; ``test_backward_is_the_adjoint`` and the comparisons with autograd
stand for them), scatters and gradients in other types than float32 (this folder runs each) and
some repetitions of two tests over all cases. By hand, all of them:
``TRITON_INTERPRET=1 pytest tests/ops -k triton``, about ten minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="this is the interpreter"
)

OPS = ("select_patches", "gather_patches", "select_gather_patches", "scatter_patches")
JACOBIANS = "not gradcheck and not gradient_reaches"
DTYPES = "not ((scatter or backward) and (float64 or float16))"  # bfloat16, too
REPEATS = "not (halves and (smallest or random or 1x)) and not (any_layout and mean)"


def _run(root: Path, report: Path, *arguments: str) -> tuple[int, list[str]]:
    """``(number of passed tests, reasons of the skipped ones)`` of a pytest run."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(
        [*command, f"--junitxml={report}"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    cases = ElementTree.parse(report).findall(".//testcase")
    skipped = [str(s.get("message")) for case in cases for s in case.findall("skipped")]
    return len(cases) - len(skipped), skipped


def test_ops(root: Path, tmp_path: Path) -> None:
    chosen = f"triton and {JACOBIANS} and {DTYPES} and {REPEATS}"
    files = [f"tests/ops/test_{op}.py" for op in OPS]
    passed, skipped = _run(root, tmp_path / "report.xml", *files, "-k", chosen)
    assert passed >= 150
    assert skipped == []


def test_kernels(root: Path, tmp_path: Path) -> None:
    files = sorted(str(p) for p in Path(__file__).parent.glob("test_*_patches.py"))
    registration = str(Path(__file__).parent / "test_registration.py")
    passed, skipped = _run(root, tmp_path / "report.xml", *files, registration)
    assert passed >= 75
    assert skipped == []
