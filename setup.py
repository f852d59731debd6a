"""Builds sparsesr. Everything declarative is in pyproject.toml; this file drives CMake.

What is built, and when:

* `sparsesr._native`, the C++ core in csrc/, always; it needs a C++17 compiler and no torch.
* its CUDA part, when nvcc is found ($CUDACXX, $CUDA_HOME/bin, PATH, /usr/local/cuda/bin). No GPU is
  needed to build it; the CUDA runtime is linked statically.
* nothing at import time, ever.

Variables that steer it:

* SPARSESR_NATIVE=0       build no native module: the pure-Python package, reference ops only.
* SPARSESR_CUDA=0 | 1     leave the CUDA part out | fail when nvcc is missing.
* SPARSESR_CUDA_ARCHS     such as "80;86;89;90+PTX"; default: the present GPUs', else 90 alone.
* SPARSESR_WERROR=1       any compiler warning is an error (what CI sets).
* CXX, CUDACXX, CXXFLAGS, CMAKE_ARGS, MAX_JOBS as usual.

The checkout's kernels/ folder is the package sparsesr.kernels and has no __init__.py: from the
checkout's root it would shadow the package of that name on PyPI.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import SetupError

ROOT = Path(__file__).resolve().parent
PURE_PYTHON = "SPARSESR_NATIVE=0 pip install -e ."


def find_program(name: str) -> str | None:
    """The executable of a build requirement: the Python package's own, else the one on PATH."""
    try:
        package = __import__(name)
    except ImportError:
        return shutil.which(name)
    folder = getattr(package, "CMAKE_BIN_DIR", None) or package.BIN_DIR
    return shutil.which(name, path=folder) or shutil.which(name)


def find_compiler() -> str:
    """The C++ compiler CMake will take."""
    asked = os.environ.get("CXX")
    names = [shlex.split(asked)[0]] if asked else ["c++", "g++", "clang++"]
    for name in names:
        if (path := shutil.which(name)) is not None:
            return path
    raise SetupError(
        f"sparsesr: no C++ compiler found (looked for {', '.join(names)}). The native core needs "
        "one: install g++ (Debian and Ubuntu: apt-get install g++) or set CXX. For the pure-Python "
        f"package, which runs the plain-torch reference ops, use: {PURE_PYTHON}"
    )


def find_nvcc() -> str | None:
    """nvcc, unless SPARSESR_CUDA=0."""
    wanted = os.environ.get("SPARSESR_CUDA", "")
    if wanted == "0":
        return None
    candidates = [
        os.environ.get("CUDACXX", ""),
        os.path.join(os.environ.get("CUDA_HOME", ""), "bin", "nvcc"),
        "nvcc",
        "/usr/local/cuda/bin/nvcc",
    ]
    found = next((path for c in candidates if c and (path := shutil.which(c))), None)
    if found is None and wanted:
        raise SetupError(
            f"sparsesr: SPARSESR_CUDA={wanted}, but no nvcc in $CUDACXX, $CUDA_HOME/bin, PATH or "
            "/usr/local/cuda/bin. Install the CUDA toolkit, or unset SPARSESR_CUDA."
        )
    return found


def cuda_archs() -> str:
    """SPARSESR_CUDA_ARCHS in CMake's words: "86;9.0+PTX" -> "86-real;90-real;90-virtual"."""
    asked = os.environ.get("SPARSESR_CUDA_ARCHS") or present_gpus() or "90"
    archs: list[str] = []
    for item in re.split(r"[;,\s]+", asked.strip("; ,")):
        match = re.fullmatch(r"(\d+)\.?(\d[af]?)(\+PTX)?", item)
        if match is None:
            raise SetupError(
                f"sparsesr: SPARSESR_CUDA_ARCHS: expected a list such as 80;90+PTX, got {asked!r}"
            )
        arch = match[1] + match[2]
        archs += [f"{arch}-real", f"{arch}-virtual"] if match[3] else [f"{arch}-real"]
    return ";".join(dict.fromkeys(archs))


def present_gpus() -> str:
    """Compute capabilities of this machine's GPUs, or nothing."""
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return ";".join(sorted(set(re.findall(r"^\d+\.\d+$", found, re.MULTILINE))))


class CMakeBuild(build_ext):
    """Configures and builds csrc/, and puts the module where setuptools wants the extension."""

    def build_extension(self, ext: Extension) -> None:
        """Build ``sparsesr._native``."""
        compiler = find_compiler()  # first: what pip cannot install for the user
        cmake = find_program("cmake")
        try:
            import pybind11
        except ImportError:
            pybind11 = None
        if cmake is None or pybind11 is None:
            raise SetupError("sparsesr: no cmake or no pybind11; pip install cmake ninja pybind11")
        nvcc = find_nvcc()
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = Path(self.build_temp).resolve() / "native"
        options = {
            "CMAKE_BUILD_TYPE": "Debug" if self.debug else "Release",
            "CMAKE_CXX_COMPILER": compiler,
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": str(target.parent),
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "SPARSESR_VERSION": self.distribution.get_version(),
            "SPARSESR_WARNINGS_AS_ERRORS": os.environ.get("SPARSESR_WERROR", "0"),
            "SPARSESR_CUDA": "ON" if nvcc else "OFF",
        }
        if nvcc:
            options["CMAKE_CUDA_COMPILER"] = nvcc
            options["SPARSESR_CUDA_ARCHS"] = cuda_archs()
        configure = [cmake, "-S", str(ROOT / "csrc"), "-B", str(build)]
        if (ninja := find_program("ninja")) is not None:
            configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        configure += [f"-D{name}={value}" for name, value in options.items()]
        configure += shlex.split(os.environ.get("CMAKE_ARGS", ""))
        jobs = os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1)
        build.mkdir(parents=True, exist_ok=True)
        self.run_tool(configure, cuda=nvcc is not None)
        self.run_tool([cmake, "--build", str(build), "--parallel", jobs], cuda=nvcc is not None)

    def run_tool(self, command: list[str], cuda: bool) -> None:
        """Run one CMake step; its own output explains a failure, this adds the ways out."""
        self.announce(shlex.join(command), level=2)
        if subprocess.run(command, check=False).returncode == 0:
            return
        ways = [f"the pure-Python package builds with: {PURE_PYTHON}"]
        if cuda:
            ways.insert(0, "the CPU part alone builds with: SPARSESR_CUDA=0 pip install -e .")
        raise SetupError(f"sparsesr: the native build failed (see above); {'; '.join(ways)}")


native = os.environ.get("SPARSESR_NATIVE", "1") != "0"
setup(
    packages=[*find_packages(include=["sparsesr", "sparsesr.*"]), "sparsesr.kernels"],
    package_dir={"sparsesr": "sparsesr", "sparsesr.kernels": "kernels"},
    ext_modules=[Extension("sparsesr._native", sources=[])] if native else [],
    cmdclass={"build_ext": CMakeBuild},
)
