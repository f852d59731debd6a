"""Every CUDA op on the host's SIMT shim against the CPU ops (csrc/testing/cuda_*_check.cpp)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.native import simt_build
from tests.native.simt_build import BUILDS, CSRC, TESTING

# Build, every n-th case from the i-th on, options. The patch kernels have no barriers, so one order
# runs all cases and the others share them; sanitizers are slow. The masked convolutions copy
# asynchronously: in some runs that happens at once, in others as late as it may.
RUNS: dict[str, tuple[str, tuple[str, str], dict[str, str]]] = {
    "ascending-negative": ("plain", ("1", "0"), {"SIMT_ORDER": "ascending"}),
    "ascending-positive": ("plain", ("5", "0"), {"SIMT_POISON": "positive"}),
    "descending-negative": (
        *("plain", ("5", "1")),
        {"SIMT_ORDER": "descending", "SIMT_CP_ASYNC": "wait"},
    ),
    "descending-positive": (
        *("plain", ("5", "2")),
        {"SIMT_ORDER": "descending", "SIMT_POISON": "positive"},
    ),
    "shuffled-negative": ("plain", ("5", "3"), {"SIMT_ORDER": "7"}),
    "shuffled-positive": (
        *("plain", ("5", "4")),
        {"SIMT_ORDER": "8", "SIMT_POISON": "positive", "SIMT_CP_ASYNC": "wait"},
    ),
    "address-and-undefined": ("address", ("5", "2"), {}),
    "thread": ("thread", ("17", "3"), {}),
}
# What has no kernels, and asks the CUDA runtime.
NOT_ON_HOST = {"runtime.cu"}


@pytest.fixture(autouse=True)
def _built() -> None:
    """These tests need no native module."""


def build(folder: Path) -> dict[str, Path]:
    """The program in all builds; the CPU ops, which are not what is checked, are compiled once."""
    cuda = [*CSRC.glob("cuda/*.cu"), *CSRC.glob("cuda/*.cpp")]
    checked = [s for s in cuda if s.name not in NOT_ON_HOST]
    checked += [*simt_build.SIMT, TESTING / "check_tensors.cpp", *TESTING.glob("cuda_*_check.cpp")]
    trusted = [*CSRC.glob("common/*.cpp"), *CSRC.glob("cpu/*.cpp")]
    flags_of = {name: (checked, flags) for name, flags in BUILDS.items()}
    flags_of["cpu"] = (trusted, ("-O1",))
    commands, objects = [], {name: [] for name in flags_of}
    for name, (sources, flags) in flags_of.items():
        for source in sources:
            output = folder / f"{name}_{source.parent.name}_{source.name}.o"
            objects[name].append(output)
            commands.append(simt_build.compile_command(source, output, *flags))
    simt_build.in_parallel(commands)
    programs = {name: folder / name for name in BUILDS}
    simt_build.in_parallel(
        [
            simt_build.link_command(objects[name] + objects["cpu"], program, *BUILDS[name])
            for name, program in programs.items()
        ]
    )
    return programs


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    programs = build(tmp_path_factory.mktemp("cuda_on_host"))
    with ThreadPoolExecutor(simt_build.CORES) as pool:
        yield {
            name: pool.submit(simt_build.run, programs[build], *cases, **options)
            for name, (build, cases, options) in RUNS.items()
        }


@pytest.mark.parametrize("name", RUNS)
def test_agrees_with_the_cpu_ops(
    results: dict[str, Future[subprocess.CompletedProcess[str]]], name: str
) -> None:
    result = results[name].result()
    assert result.returncode == 0, result.stdout + result.stderr[:8000]
    passed = re.fullmatch(r"(\d+) cases\n", result.stdout)
    assert passed is not None
    assert int(passed[1]) > 30
