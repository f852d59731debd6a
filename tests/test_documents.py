"""The documents are true: tables equal their sources, links lead somewhere, commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "bench/README.md",
    "csrc/README.md",
    "docs/ablations.md",
    "docs/evaluation.md",
    "docs/masked.md",
    "docs/routing.md",
    "docs/training.md",
    "kernels/README.md",
]
WITH_EXAMPLES = ["README.md", "docs/masked.md", "docs/routing.md"]


def test_tables_are_what_the_result_files_say(root: Path) -> None:
    done = subprocess.run([sys.executable, "tools/update_tables.py", "--check"], cwd=root)
    assert done.returncode == 0, "run python tools/update_tables.py"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links(root: Path, name: str) -> None:
    text = (root / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith("http"):
            assert (root / name).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_commands_exist(root: Path, name: str) -> None:
    from sparsesr.cli import build_app

    known = {c.name for c in build_app().registered_commands}
    used = set(re.findall(r"^sparsesr ([a-z-]+)", (root / name).read_text(), re.MULTILINE))
    assert used
    assert used <= known


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_python_examples_run(root: Path, name: str) -> None:
    examples = re.findall(r"```python\n(.*?)```", (root / name).read_text(), re.DOTALL)
    assert examples
    for code in examples:
        exec(compile(code, name, "exec"), {})


def test_ci_runs_the_command_of_the_readme(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    assert re.search(r"<!-- test command -->\n```sh\n[^\n]*pytest[^\n]*\n```", text)
