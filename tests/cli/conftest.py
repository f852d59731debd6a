"""What the command-line tests share: a runner, weights, photographs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import sparsesr
from sparsesr.cli import build_app
from sparsesr.io import write_image


class Outcome:
    """Exit code, stdout and stderr of one command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def json(self) -> Any:
        """Stdout as the one JSON document it must be."""
        return json.loads(self.out)


@pytest.fixture
def run() -> Callable[..., Outcome]:
    """Run a command line in this process."""

    def call(*words: object) -> Outcome:
        result = CliRunner().invoke(build_app(), [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        # Boxes and wrapping depend on the terminal; the words do not.
        return Outcome(result.exit_code, result.stdout, " ".join(result.stderr.split()))

    return call


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights files of untrained networks, by model name."""
    folder = tmp_path_factory.mktemp("weights")
    files = {}
    for name in ("fsrcnn-mga-x4", "fsrcnn-mga-x2", "fsrcnn-dnet-x2"):
        torch.manual_seed(0)
        files[name] = folder / f"{name}.safetensors"
        sparsesr.models.save_weights(
            sparsesr.create_model(name), files[name], {"training": "untrained, for tests"}
        )
    return files


@pytest.fixture
def model(weights: dict) -> tuple[object, ...]:
    """The option of a network that selects patches, x2."""
    return ("-m", weights["fsrcnn-mga-x2"])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a PNG, a JPEG, a broken PNG and a text file."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (13, 10, 3)), ("b.jpg", (8, 9, 3))):
        write_image(folder / name, rng.integers(0, 256, size, dtype=np.uint8))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (folder / "notes.txt").write_text("no image")
    return folder
