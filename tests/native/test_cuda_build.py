"""The CUDA kernels compile for every supported GPU without a warning and without a spill; what a
build is good for.

Needs nvcc, not a GPU. What the kernels compute is tested elsewhere; what they cost in registers is
in the report of this test (``pytest -rP``).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsesr.ops import _cuda, _module, _native

CSRC = Path(__file__).resolve().parents[2] / "csrc"
ARCHS = (80, 86, 89, 90)
SOURCES = sorted(CSRC.glob("cuda/*.cu"))
# -v has ptxas say of every kernel: "Compiling entry function 'NAME' for 'sm_80'", "0 bytes stack
# frame, 0 bytes spill stores, 0 bytes spill loads", "Used 32 registers, ...".
KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for 'sm_(?P<arch>\d+)'"
    r".*?(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)
# Every wrapper of inline PTX, as a kernel would call it.
PTX = """
#include "cuda/ptx.h"

namespace sparsesr::cuda {
__global__ void ptx_kernel(const uint4* in, float* out) {
  SIMT_SHARED(uint4, tile, 64);
  cp_async_16(tile + threadIdx.x, in + threadIdx.x, threadIdx.x < 30);
  cp_async_16(tile + 32 + threadIdx.x, in + 32 + threadIdx.x, true);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  uint32_t a[4], b[4];
  ldmatrix_x4(a, tile + threadIdx.x);
  ldmatrix_x4_trans(b, tile + 32 + threadIdx.x);
  const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
  float d[4] = {};
  mma_m16n8k16_bf16(d, a, left);
  mma_m16n8k16_f16(d, a, right);
  for (int i = 0; i < 4; ++i) out[threadIdx.x * 4 + i] = d[i];
}
}  // namespace sparsesr::cuda
"""


@pytest.fixture(autouse=True)
def _built() -> None:
    """These tests need no native module."""


@pytest.fixture(scope="module")
def nvcc() -> str:
    found = next(
        (
            path
            for name in (os.environ.get("CUDACXX"), "nvcc", "/usr/local/cuda/bin/nvcc")
            if name and (path := shutil.which(name))
        ),
        None,
    )
    if found is None or not CSRC.is_dir():
        pytest.skip("no nvcc" if found is None else "no csrc/ here (installed package)")
    return found


def compile_kernels(nvcc: str, source: Path, folder: Path) -> list[re.Match[str]]:
    """What ptxas says of every kernel of a file, for every architecture, in one call of nvcc."""
    targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHS]
    strict = ["-Werror", "all-warnings", "-Xcompiler=-Wall,-Wextra,-Werror", "-Xptxas", "-v"]
    options = ["-std=c++17", "-O3", "-DNDEBUG", "--threads", "2", f"-I{CSRC}", *targets, *strict]
    command = [nvcc, *options, "-c", str(source), "-o", str(folder / "object.o")]
    result = subprocess.run(command, capture_output=True, text=True)
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    assert "warning" not in said, said
    # With --threads the architectures' reports may come in any order, each in one piece.
    return list(KERNEL.finditer(said))


def spills(kernel: re.Match[str]) -> bool:
    return (kernel["stores"], kernel["loads"]) != ("0", "0")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_kernels(source: Path, nvcc: str, tmp_path: Path) -> None:
    kernels = compile_kernels(nvcc, source, tmp_path)
    for kernel in kernels:
        print(f"sm_{kernel['arch']} {kernel['registers']:>3} registers  {kernel['name']}")
    assert [k["name"] for k in kernels if spills(k)] == []
    by_arch = {arch: {k["name"] for k in kernels if int(k["arch"]) == arch} for arch in ARCHS}
    assert len(set(map(frozenset, by_arch.values()))) == 1
    assert len(by_arch[90]) >= (1 if "__global__" in source.read_text() else 0)
    # gather_patches_fwd_kernel, slot_map_fill_kernel: whose it is, then what it does.
    for name in by_arch[90]:
        assert re.search(rf"\d{source.stem}_\w+_kernel", name), name


def test_ptx_wrappers(nvcc: str, tmp_path: Path) -> None:
    source = tmp_path / "ptx.cu"
    source.write_text(PTX)
    kernels = compile_kernels(nvcc, source, tmp_path)
    assert sorted(int(k["arch"]) for k in kernels) == list(ARCHS)


@pytest.mark.parametrize(
    ("built_for", "capability", "runs"),
    [
        ("90-real", (9, 0), True),
        ("90-real", (8, 0), False),
        ("90-real", (12, 0), False),
        ("80-real", (8, 9), True),
        ("86-real", (8, 0), False),
        ("80-real,90-real,90-virtual", (12, 0), True),
        ("90-virtual", (8, 9), False),
        ("90", (10, 0), True),
        ("90a-real", (9, 0), True),
        ("100f-real", (10, 3), True),
        ("120a-virtual", (12, 1), False),
    ],
)
def test_what_an_architecture_runs_on(
    built_for: str, capability: tuple[int, int], runs: bool
) -> None:
    assert _cuda._runs(built_for, *capability) is runs


MODULE = {"compiled": True, "error": None, "architectures": "80-real,86-real"}
VERSIONS = {"runtime_version": 13000, "driver_version": 12080}


@pytest.mark.parametrize(
    ("cuda", "text"),
    [
        ({}, r"built for compute capability 80-real,86-real, the GPU has 9.0; rebuild with .*'90'"),
        ({"architectures": "90-real"}, None),
        (
            {"compiled": False, "error": "no nvcc"},
            r"no CUDA part \(no nvcc\); build it with `SPARS",
        ),
        ({"error": "too old"}, r"built with CUDA 13.0, the driver is for 12.8: too old; update"),
    ],
)
def test_what_is_missing(
    cuda: dict[str, Any], text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with one GPU of compute capability 9.0."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: (9, 0))
    monkeypatch.setattr(_native, "available", lambda: True)
    monkeypatch.setattr(_native, "build_info", lambda: {"cuda": MODULE | VERSIONS | cuda})
    error = _cuda.load_error()
    assert error is None if text is None else re.search(text, error or ""), error


def test_nothing_is_asked_of_the_module_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delattr(_native, "build_info")
    assert str(_cuda.load_error()).startswith("torch sees no CUDA GPU")


def test_without_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(_module, "_error", "sparsesr._native is not built")
    assert _cuda.load_error() == "sparsesr._native is not built"
