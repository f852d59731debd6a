"""Every example runs, and is short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.py"))


NEEDS = {"train_recipe": "lightning"}  # an extra's package


def _run(example: Path, folder: Path, *arguments: str) -> str:
    """What the example prints, in an empty folder and a process of its own."""
    path = os.pathsep.join([str(example.parent.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(example), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, tmp_path: Path) -> None:
    """It says something, and is short."""
    pytest.importorskip("thop")
    if example.stem in NEEDS:
        pytest.importorskip(NEEDS[example.stem])
    assert _run(example, tmp_path)
    assert len(example.read_text(encoding="utf-8").splitlines()) < 60


def test_any_scale_with_published_weights(root: Path, shared: Path, tmp_path: Path) -> None:
    weights = shared / "weights" / "carn_pcsr_x4.pth"
    if not weights.is_file():
        pytest.skip(f"needs the authors' weights: no {weights}")
    said = _run(root / "examples" / "any_scale.py", tmp_path, str(weights))
    assert "untrained" not in said
    assert "[162, 216]" in said


def test_upscale_image_of_ones_own(root: Path, tmp_path: Path) -> None:
    """A picture with transparency comes back with it, where it was asked for."""
    image = pytest.importorskip("PIL.Image")
    image.new("RGBA", (9, 7), (10, 20, 30, 40)).save(tmp_path / "in.png")
    example = root / "examples" / "upscale_image.py"
    _run(example, tmp_path, str(tmp_path / "in.png"), str(tmp_path / "out.png"))
    with image.open(tmp_path / "out.png") as larger:
        assert (larger.size, larger.mode) == ((36, 28), "RGBA")


def test_there_are_examples() -> None:
    assert EXAMPLES
