"""Builds programs of csrc/testing with g++, plain and under the sanitizers, and runs them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"
TESTING = CSRC / "testing"
SIMT = tuple(TESTING / f"simt_{part}.cpp" for part in ("grid", "fiber", "options"))
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1

BUILDS = {
    "plain": ("-O1",),
    # Compiling optimised code for these two checks takes longer than running it saves.
    "address": ("-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "thread": ("-O1", "-g", "-fsanitize=thread"),
}
# nvcc assumes nothing from the types of what pointers point to.
FLAGS = (
    *("-std=c++17", "-fno-strict-aliasing", f"-I{CSRC}"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-Wno-unknown-pragmas"),
    *("-DSPARSESR_SIMT", "-DSPARSESR_ISA=portable"),
)
# LeakSanitizer needs ptrace, which containers often refuse; leaks are not what is looked for.
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1 exitcode=66 atexit_sleep_ms=0",
}


def compiler() -> str:
    """g++, or a skip that says why there is none to use."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip("the sanitizer builds are set up for x86-64 Linux")
    if not CSRC.is_dir():
        pytest.skip("no csrc/ here (installed package)")
    found = shutil.which("g++")
    if found is None:
        pytest.skip("no g++")
    return found


def in_parallel(commands: list[list[str]]) -> None:
    """Runs all commands, as many at once as there are cores; fails on the first that failed."""
    with ThreadPoolExecutor(CORES) as pool:
        results = list(
            pool.map(lambda c: subprocess.run(c, capture_output=True, text=True), commands)
        )
    for command, result in zip(commands, results, strict=True):
        assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr}"


def compile_command(source: Path, output: Path, *flags: str) -> list[str]:
    """Compiles one source, .cu as plain C++; a result of an earlier build is gone beforehand."""
    output.unlink(missing_ok=True)
    return [compiler(), *FLAGS, *flags, "-c", "-x", "c++", str(source), "-o", str(output)]


def link_command(objects: list[Path], output: Path, *flags: str) -> list[str]:
    """Links a program; one of an earlier build is gone beforehand."""
    output.unlink(missing_ok=True)
    return [compiler(), *flags, *map(str, objects), "-o", str(output)]


def run(program: Path, *arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Runs a program with the shim's options (SIMT_ORDER, ...) and no others."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SIMT_")}
    environment = {**inherited, **OPTIONS, **options}
    command = [str(program), *arguments]
    result = _run(command, environment)
    if "unexpected memory mapping" in result.stderr:  # ThreadSanitizer, of older compilers
        result = _run(["setarch", platform.machine(), "-R", *command], environment)
    return result


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=600, check=False
    )
