"""The C++ core without Python: sanitizers, and what the instruction-set variants share."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"


@pytest.fixture
def compiler() -> str:
    asked = os.environ.get("CXX", "").split()
    found = next((c for c in (*asked[:1], "g++", "clang++") if shutil.which(c)), None)
    if found is None or not CSRC.is_dir():
        pytest.skip("no C++ compiler" if found is None else "no csrc/ here (installed package)")
    return found


def compile_core(compiler: str, *arguments: str | Path) -> None:
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", f"-I{CSRC}"]
    result = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_sanitizers(compiler: str, tmp_path: Path) -> None:
    """Every CPU op at awkward sizes under AddressSanitizer and UndefinedBehaviorSanitizer."""
    program = tmp_path / "sanitize"
    compile_core(
        compiler,
        *("-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
        *("-DSPARSESR_ISA=portable", "-o", program, CSRC / "testing" / "sanitize.cpp"),
        *sorted(CSRC.glob("common/*.cpp")),
        *sorted(CSRC.glob("cpu/*.cpp")),
    )
    # LeakSanitizer needs ptrace, which containers often refuse; leaks are not what is looked for.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    result = subprocess.run([program], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"\d+ cases\n", result.stdout)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="variants exist on x86-64 only")
@pytest.mark.parametrize(
    "op",
    [
        *("gather_patches", "scatter_patches", "select_patches", "select_gather_patches"),
        *("masked_conv2d", "masked_block", "route_mlp", "average_neighbors", "fma_peak"),
        *("conv_rows", "refine_patches", "run_program"),
    ],
)
def test_variants_share_no_symbols(op: str, compiler: str, tmp_path: Path) -> None:
    """The linker merges weak symbols of one name; an AVX-512 copy must serve no other variant."""
    if shutil.which("nm") is None:
        pytest.skip("no nm")
    compiled = tmp_path / "op.o"
    features = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "f16c")
    variant = ("-O0", *(f"-m{name}" for name in features), "-DSPARSESR_ISA=avx512")
    compile_core(compiler, *variant, "-c", CSRC / f"cpu/{op}.cpp", "-o", compiled)
    listing = subprocess.run(
        ["nm", "--demangle", "--defined-only", compiled], capture_output=True, text=True, check=True
    ).stdout
    weak = [line for line in listing.splitlines() if re.match(r"\S+ [WVu] ", line)]
    assert [line for line in weak if "sparsesr::avx512::" not in line] == []
