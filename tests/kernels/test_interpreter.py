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
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.native.simt_build import CORES

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


@dataclass(frozen=True)
class Part:
    """Files below tests/, by patterns; what -k chooses of them, and how many that is at least."""

    files: tuple[str, ...]
    chosen: str
    count: int


OWN = ("*_patches", "masked_*", "route_mlp", "registration")
PARTS = {
    "kernels": Part(tuple(f"kernels/test_{name}.py" for name in OWN), chosen="", count=85),
    "ops": Part(
        tuple(f"ops/test_{op}.py" for op in OPS),
        chosen=f"triton and {JACOBIANS} and {DTYPES} and {REPEATS}",
        count=150,
    ),
    # Gradients are the reference's; a case of each kind in one 16-bit type.
    "routing": Part(
        tuple(f"ops/test_{op}.py" for op in ROUTING),
        chosen=f"triton and {JACOBIANS} and not (float64 or bfloat16 or backward)",
        count=30,
    ),
    "masked": Part(
        tuple(f"ops/test_{op}.py" for op in MASKED),
        chosen=f"triton and {JACOBIANS} and {SMALL} and not (float64 or bfloat16 or two_runs)",
        count=30,
    ),
    "programs": Part(
        ("ops/test_refine_patches.py",),
        chosen=f"triton and not float64 and ({PROGRAMS})",
        count=40,
    ),
}


def _run(root: Path, report: Path, part: Part) -> tuple[int, list[str]]:
    """``(number of passed tests, reasons of the skipped ones)`` of a pytest run."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    files = sorted(str(path) for name in part.files for path in (root / "tests").glob(name))
    options = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}", "-k", part.chosen]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
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


@pytest.fixture(scope="module")
def runs(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[tuple[int, list[str]]]]]:
    """All parts, as many at once as there are cores, the longest first."""
    folder = tmp_path_factory.mktemp("interpreter")
    with ThreadPoolExecutor(CORES) as pool:
        yield {
            name: pool.submit(_run, root, folder / f"{name}.xml", part)
            for name, part in PARTS.items()
        }


@pytest.mark.parametrize("name", list(PARTS))
def test_in_the_interpreter(runs: dict[str, Future[tuple[int, list[str]]]], name: str) -> None:
    passed, skipped = runs[name].result()
    assert passed >= PARTS[name].count
    assert skipped == []
