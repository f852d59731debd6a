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
MASKED = ("masked_conv2d", "masked_block")
ROUTING = ("route_mlp", "average_neighbors")
# A network is a dozen launches or two: two of them, and the steps that are not torch's.
PROGRAMS = (
    "(test_a_step and float32 and (conv or epilogue or input or many)) or (test_a_step and float16 "
    "and prelu) or (test_a_network and (fsrcnn-5 or (pan-6 and float16)) and not bfloat16) "
    "or (every_size and fsrcnn-5) or (every_layout and fsrcnn-5) or around_a_slice or changed "
    "or index_that_is"
)
# One product takes the interpreter a millisecond: small blocks, gradients of the smallest.
SMALL = (
    "not (1x64 or 2x8x9x5) and not (layout and not 1x5) and not (backward and (1x16 or 2x8)) "
    "and not (float16 and (2x8 or 1x5))"
)


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


def test_masked_ops(root: Path, tmp_path: Path) -> None:
    chosen = f"triton and {JACOBIANS} and {SMALL} and not (float64 or bfloat16 or two_runs)"
    files = [f"tests/ops/test_{op}.py" for op in MASKED]
    passed, skipped = _run(root, tmp_path / "report.xml", *files, "-k", chosen)
    assert passed >= 30
    assert skipped == []


def test_routing_ops(root: Path, tmp_path: Path) -> None:
    """Gradients are the reference's; a case of each kind in one 16-bit type."""
    chosen = f"triton and {JACOBIANS} and not (float64 or bfloat16 or backward)"
    files = [f"tests/ops/test_{op}.py" for op in ROUTING]
    passed, skipped = _run(root, tmp_path / "report.xml", *files, "-k", chosen)
    assert passed >= 30
    assert skipped == []


def test_programs(root: Path, tmp_path: Path) -> None:
    files = ["tests/ops/test_refine_patches.py"]
    chosen = f"triton and not float64 and ({PROGRAMS})"
    passed, skipped = _run(root, tmp_path / "report.xml", *files, "-k", chosen)
    assert passed >= 40
    assert skipped == []


def test_kernels(root: Path, tmp_path: Path) -> None:
    names = ("*_patches", "masked_*", "route_mlp", "registration")
    files = sorted(str(p) for n in names for p in Path(__file__).parent.glob(f"test_{n}.py"))
    passed, skipped = _run(root, tmp_path / "report.xml", *files)
    assert passed >= 85
    assert skipped == []
