"""What a build contains, what steers it, and what it says when it cannot be done."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import re
import runpy
import shutil
import site
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import setuptools

import sparsesr

ROOT = Path(__file__).resolve().parents[1]
SETUP = ROOT / "setup.py"
pytestmark = pytest.mark.skipif(not SETUP.exists(), reason="not a checkout")


@pytest.fixture
def project() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(project: dict[str, Any]) -> list[str]:
    extras = project["project"]["optional-dependencies"].values()
    return [*project["project"]["dependencies"], *itertools.chain.from_iterable(extras)]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """setup.py's names, and under "setup" the arguments of its one call."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: calls.append(arguments))
    return {**runpy.run_path(str(SETUP)), "setup": calls}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a build reads, with a kernel of its own in kernels/."""
    skip = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
    for folder in ("sparsesr", "kernels", "csrc", "recipes"):
        shutil.copytree(ROOT / folder, tmp_path / "checkout" / folder, ignore=skip)
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tmp_path / "checkout")
    (tmp_path / "checkout/README.md").touch()
    (tmp_path / "checkout/kernels/some_op.py").write_text("NAME = __name__\n", encoding="utf-8")
    return tmp_path / "checkout"


def build(checkout: Path, hook: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a PEP 517 hook of setuptools in the checkout; its result lies in checkout/out."""
    code = f"from setuptools import build_meta as b; b.{hook}"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=checkout,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_build_requirements_are_light(project: dict[str, Any]) -> None:
    names = {requirement.split(">")[0] for requirement in project["build-system"]["requires"]}
    assert names == {"setuptools", "pybind11", "cmake", "ninja"}


def test_requirements(project: dict[str, Any]) -> None:
    table = project["project"]
    assert table["license"] == "Apache-2.0"
    assert table["requires-python"] == ">=3.10"
    assert "torch>=2.8" in table["dependencies"]
    assert set(table["optional-dependencies"]) == {"train", "test", "bench", "dev"}
    assert not [r for r in requirements(project) if "torchvision" in r], "it would replace torch"


def test_constraints_pin_every_requirement(project: dict[str, Any]) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert pins["torch"] == "2.13.0"
    assert pins["triton"] == "3.7.1"
    names = {re.split(r"[;>\[]", r)[0].strip() for r in requirements(project)} - {"sparsesr"}
    assert {n.lower() for n in names} <= {n.lower() for n in pins}
    assert "torchvision" not in pins


def test_installed_metadata() -> None:
    try:
        found = importlib.metadata.distribution("sparsesr")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("sparsesr is on the path but not installed")
    assert found.version == sparsesr.__version__
    scripts = {e.name: e.value for e in found.entry_points if e.group == "console_scripts"}
    assert scripts == {"sparsesr": "sparsesr.cli:main"}


def test_kernels_mapping(recorded: dict[str, Any]) -> None:
    (arguments,) = recorded["setup"]
    assert arguments["package_dir"] == {"sparsesr": "sparsesr", "sparsesr.kernels": "kernels"}
    assert "sparsesr.kernels" in arguments["packages"]
    assert "sparsesr.ops" in arguments["packages"]
    assert not {"tests", "bench", "kernels"} & set(arguments["packages"])
    assert not (ROOT / "kernels/__init__.py").exists(), "it would shadow the package 'kernels'"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("80;86;89;90+PTX", "80-real;86-real;89-real;90-real;90-virtual"),
        ("8.6", "86-real"),
        ("9.0a, 12.0", "90a-real;120-real"),
        ("90;90", "90-real"),
    ],
)
def test_cuda_archs(
    asked: str, expected: str, recorded: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSESR_CUDA_ARCHS", asked)
    assert recorded["cuda_archs"]() == expected


def test_cuda_archs_refused(recorded: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSESR_CUDA_ARCHS", "hopper")
    with pytest.raises(BaseException, match=r"expected a list such as 80;90\+PTX, got 'hopper'"):
        recorded["cuda_archs"]()


def test_nvcc_is_wanted_or_not(recorded: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for variable in ("CUDACXX", "CUDA_HOME", "SPARSESR_CUDA"):
        monkeypatch.delenv(variable, raising=False)
    assert recorded["find_nvcc"]() is None
    monkeypatch.setenv("SPARSESR_CUDA", "1")
    with pytest.raises(BaseException, match=r"SPARSESR_CUDA=1, but no nvcc"):
        recorded["find_nvcc"]()
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert recorded["find_nvcc"]() is not None
    monkeypatch.setenv("SPARSESR_CUDA", "0")
    assert recorded["find_nvcc"]() is None


def test_no_compiler(checkout: Path) -> None:
    """Without a compiler the build stops, names the way out, and installs nothing by itself."""
    result = build(checkout, "build_wheel('out')", PATH="/nonexistent", CXX="")
    assert result.returncode != 0
    assert "sparsesr: no C++ compiler found (looked for c++, g++, clang++)" in result.stderr
    assert "SPARSESR_NATIVE=0 pip install -e ." in result.stderr
    assert not list(checkout.glob("out/*.whl"))
    named = build(checkout, "build_wheel('out')", CXX="/nonexistent/g++ -O1")
    assert "no C++ compiler found (looked for /nonexistent/g++)" in named.stderr


def test_pure_python_wheel(checkout: Path) -> None:
    """SPARSESR_NATIVE=0 needs no compiler, and gives a wheel for every platform."""
    result = build(
        checkout, "build_wheel('out')", SPARSESR_NATIVE="0", PATH="/nonexistent", CXX="/nonexistent"
    )
    assert result.returncode == 0, result.stderr
    (wheel,) = checkout.glob("out/*.whl")
    assert wheel.name == f"sparsesr-{sparsesr.__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    assert "sparsesr/kernels/some_op.py" in names
    assert "sparsesr/ops/_native.py" in names
    assert [n for n in names if n.startswith("sparsesr/assets/")]
    tops = {n.split("/")[0] for n in names}
    assert tops == {"sparsesr", f"sparsesr-{sparsesr.__version__}.dist-info"}
    assert not [n for n in names if n.endswith((".so", ".cpp")) or n.startswith("sparsesr/setup")]


def test_sdist_builds_anywhere(checkout: Path) -> None:
    (checkout / "sparsesr/_native.so").touch()
    result = build(checkout, "build_sdist('out')", SPARSESR_NATIVE="0")
    assert result.returncode == 0, result.stderr
    (archive,) = checkout.glob("out/*.tar.gz")
    with tarfile.open(archive) as members:
        names = {n.split("/", 1)[-1] for n in members.getnames()}
    for source in (*(ROOT / "csrc").rglob("*.*"), *(ROOT / "kernels").glob("*.py"), SETUP):
        assert source.relative_to(ROOT).as_posix() in names
    assert not [n for n in names if n.endswith(".so")]


@pytest.mark.parametrize("mode", ["default", "strict", "compat"])
def test_editable_kernels(mode: str, checkout: Path, tmp_path: Path) -> None:
    """sparsesr.kernels is importable from every kind of editable install."""
    settings = "{}" if mode == "default" else f"{{'editable_mode': '{mode}'}}"
    hook = f"build_editable('out', {settings})"
    result = build(checkout, hook, SPARSESR_NATIVE="0")
    assert result.returncode == 0, result.stderr
    (wheel,) = checkout.glob("out/*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    # The checkout under test may be installed here, too: -S leaves its .pth files out, and this
    # one's are read before other packages are on the path.
    code = (
        f"import site, sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); "
        f"site.addsitedir({str(tmp_path / 'site')!r}); sys.path += {site.getsitepackages()!r}; "
        "import sparsesr, sparsesr.kernels.some_op as op; print(sparsesr.__file__, op.NAME)"
    )
    shown = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    where, name = shown.stdout.split() or (shown.stderr, "")
    assert Path(where).is_relative_to(checkout), shown.stderr
    assert name == "sparsesr.kernels.some_op"
