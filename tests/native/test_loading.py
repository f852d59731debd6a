"""How the native module is found, which variant it runs, what is said when it is not usable."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

import sparsesr
from sparsesr.ops import _native

PACKAGE = Path(sparsesr.__file__).resolve().parent
SELECT = "import torch, sparsesr; sparsesr.ops.select_patches(torch.rand(1, 3, 3), 2)"


def python(
    code: str, root: Path = PACKAGE.parent, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter that finds the package in ``root``."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **environment},
    )


def test_build_info() -> None:
    info = _native.build_info()
    assert info["abi"] == _native.ABI
    assert info["version"] == sparsesr.__version__
    assert info["cpu_isa"] in info["cpu_isas"]
    assert info["cpu_isas"][-1] == "portable"
    assert {"compiled", "architectures", "runtime_version", "device_count", "error"} <= set(
        info["cuda"]
    )


def test_isa_from_the_environment() -> None:
    """A forced variant is used; a name that means none is an error of the call, not the import."""
    code = f"import os; {SELECT}; from sparsesr import _native; print(_native.cpu_isa())"
    assert python(code, SPARSESR_CPU_ISA="portable").stdout.strip() == "portable"
    bad = python(SELECT, SPARSESR_CPU_ISA="sse9")
    message = (
        r"ValueError: SPARSESR_CPU_ISA: expected one of (\w+, )*portable on this CPU, got 'sse9'"
    )
    assert re.search(message, bad.stderr), bad.stderr


def test_unknown_isa() -> None:
    module = importlib.import_module("sparsesr._native")
    with pytest.raises(ValueError, match=r"set_cpu_isa: expected one of .*portable"):
        module.set_cpu_isa("neon")


def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSESR_NATIVE", "0")
    _, error = _native._load()
    assert error == "the native module is switched off by SPARSESR_NATIVE=0; unset it"


def test_another_abi(monkeypatch: pytest.MonkeyPatch) -> None:
    other = types.ModuleType("sparsesr._native")
    other.__dict__.update(abi=0, version="0.0.1", __file__="/x/_native.so")
    monkeypatch.setitem(sys.modules, "sparsesr._native", other)
    _, error = _native._load()
    assert error is not None
    assert error.startswith(
        "/x/_native.so is of another version of sparsesr (it was built from 0.0.1"
    )
    assert "pip install -e ." in error


def test_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sparsesr._native", None)
    _, error = _native._load()
    assert error is not None
    assert re.match(r"sparsesr\._native is not built.*; build it with `pip install -e \.`", error)


def test_broken(tmp_path: Path) -> None:
    """A file that does not load leaves import and reference ops working; the call explains."""
    shutil.copytree(
        PACKAGE, tmp_path / "sparsesr", ignore=shutil.ignore_patterns("_native*.so", "__pycache__")
    )
    suffix = next(s for s in importlib.machinery.EXTENSION_SUFFIXES if "cpython" in s)
    (tmp_path / "sparsesr" / f"_native{suffix}").write_bytes(b"not a library")
    code = (
        f"{SELECT}; from sparsesr.ops import _native; print(_native.load_error())\n"
        "with sparsesr.use_backend('cpu'): pass"
    )
    result = python(code, tmp_path)
    expected = r"sparsesr\._native does not load: .*\(torch 2.*; build it with `pip install"
    assert re.match(expected, result.stdout), result.stderr
    assert (
        "RuntimeError: backend 'cpu' is not available: sparsesr._native does not load"
        in result.stderr
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_one_openmp_runtime() -> None:
    """Imported after torch, the module uses torch's libgomp: one pool of threads, not two."""
    if not list(Path(torch.__file__).parent.glob("lib/libgomp.so.1")):
        pytest.skip("this torch carries its OpenMP runtime under another name")
    code = f"{SELECT}; print(*{{l.split()[-1] for l in open('/proc/self/maps') if 'gomp' in l}})"
    assert len(python(code).stdout.split()) == 1


def test_lazily_negated_tensors_are_refused() -> None:
    negated = torch.zeros(1, 1, 4, 4, dtype=torch.complex64).conj().imag
    with pytest.raises(TypeError, match=r"lazily negated; pass tensor.resolve_neg"):
        _native.gather_patches(negated, torch.zeros(1, 1, dtype=torch.int32), 4, 0, 4)
