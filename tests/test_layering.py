"""The arrows of the design hold: imports run one way, an op has one name everywhere."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

# A package may import those to its right (and itself).
ORDER = ["cli", "ablations", "inference", "train", "models", "nn", "engine", "ops"]
LEAVES = {"io", "metrics", "data", "viz"}  # import each other and ops only
PATCH_OPS = {"select_patches", "gather_patches", "select_gather_patches", "scatter_patches"}


def _imports(path: Path, package: str) -> set[str]:
    """Parts of sparsesr that a file imports, at module level or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            prefix = package.split(".")[: len(package.split(".")) - node.level + 1]
            module = [*(prefix if node.level else []), *([node.module] if node.module else [])]
            names = [".".join([*module, alias.name]) for alias in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("sparsesr.")}
    return found


def _files(root: Path, part: str) -> list[tuple[Path, str]]:
    folder = root / "sparsesr" / part
    return [(p, ".".join(p.relative_to(root).parent.parts)) for p in sorted(folder.rglob("*.py"))]


@pytest.mark.parametrize("part", ORDER)
def test_imports_run_one_way(root: Path, part: str) -> None:
    above = set(ORDER[: ORDER.index(part)])
    for path, package in _files(root, part):
        wrong = _imports(path, package) & above
        # inference and train stand side by side.
        assert not wrong, f"{path.relative_to(root)} imports {sorted(wrong)}"


@pytest.mark.parametrize("part", sorted(LEAVES))
def test_leaves_import_nothing_above_ops(root: Path, part: str) -> None:
    for path, package in _files(root, part):
        wrong = _imports(path, package) & (set(ORDER) - {"ops"})
        assert not wrong, f"{path.relative_to(root)} imports {sorted(wrong)}"


def _stems(root: Path, pattern: str) -> set[str]:
    stems = (p.stem.removeprefix("test_").removeprefix("bench_") for p in root.glob(pattern))
    return {s for s in stems if not s.startswith("_")}


def test_an_op_has_one_name_everywhere(root: Path) -> None:
    ops = _stems(root, "sparsesr/ops/*.py")
    assert ops >= PATCH_OPS
    assert _stems(root, "sparsesr/ops/reference/*.py") == ops
    assert _stems(root, "tests/ops/test_*.py") >= ops
    assert _stems(root, "bench/bench_*.py") >= PATCH_OPS


@pytest.mark.parametrize(
    ("backend", "pattern"),
    [("_native", "csrc/cpu/*.cpp"), ("_cuda", "csrc/cuda/*.cu"), ("_triton", "kernels/*.py")],
)
def test_a_backend_has_a_file_for_each_op(root: Path, backend: str, pattern: str) -> None:
    """An op that a backend implements lies in the file of its name, and no op's file lies idle."""
    ops = _stems(root, "sparsesr/ops/*.py")
    module = importlib.import_module(f"sparsesr.ops.{backend}")
    implemented = {op for op in ops if hasattr(module, op) or hasattr(module, f"{op}_")}
    assert implemented >= PATCH_OPS
    assert _stems(root, pattern) & ops == implemented


def test_import_loads_torch_and_numpy_only() -> None:
    code = (
        "import sys, torch, numpy; before = set(sys.modules); import sparsesr; "
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "PIL",
        "cv2",
        "yaml",
        "thop",
        "rich",
        "typer",
        "safetensors",
        "lightning",
        "matplotlib",
        "triton",
        "tqdm",
    }
    assert not heavy & set(done.stdout.split())


def test_only_one_module_takes_addresses(root: Path) -> None:
    users = [p.name for p in (root / "sparsesr").rglob("*.py") if "data_ptr()" in p.read_text()]
    assert sorted(users) == ["_module.py", "_packing.py"]  # the latter to know tensors again


def test_the_native_core_knows_nothing_of_torch(root: Path) -> None:
    for path in (root / "csrc").rglob("*"):
        if path.suffix in {".cpp", ".h", ".cu", ".cuh"}:
            assert "torch/" not in path.read_text(), path


def test_examples_in_docstrings() -> None:
    """Every doctest of the package, run as documentation is read."""
    import doctest
    import importlib
    import pkgutil

    import sparsesr

    for info in pkgutil.walk_packages(sparsesr.__path__, "sparsesr."):
        if "__main__" in info.name or info.name == "sparsesr._native":
            continue
        module = importlib.import_module(info.name)
        result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
        assert result.failed == 0, info.name
