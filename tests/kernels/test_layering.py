"""kernels/ stands on its own: torch, Triton and the standard library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ALLOWED = {"torch", "triton", *sys.stdlib_module_names}


def test_kernels_import_torch_and_triton_only(root: Path) -> None:
    files = sorted((root / "kernels").glob("*.py"))
    assert files
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                wrong = {alias.name.split(".")[0] for alias in node.names} - ALLOWED
            elif isinstance(node, ast.ImportFrom):
                # One dot is kernels/ itself, two would be sparsesr.
                name = (node.module or "").split(".")[0]
                wrong = {name} - ALLOWED if node.level == 0 else {"."} if node.level > 1 else set()
            else:
                continue
            assert not wrong, f"{path.name} imports {wrong}"


def test_nothing_is_registered_in_kernels(root: Path) -> None:
    for path in (root / "kernels").glob("*.py"):
        assert "torch.library" not in path.read_text(), path.name
    assert not (root / "kernels" / "__init__.py").exists()


def test_the_backend_does_not_import_triton_before_it_runs() -> None:
    code = (
        "import sys, sparsesr, sparsesr.ops._triton as t; t.load_error(); sparsesr.backends(); "
        "assert 'triton' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
