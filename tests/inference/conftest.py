"""What the tests of evaluation share: an untrained network and a data set of two images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sparsesr
from sparsesr.io import write_image
from sparsesr.metrics import imresize


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return sparsesr.create_model("fsrcnn-mga", scale=2).eval()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two images and their LR files, as the benchmarks lay them out; HR is not cropped."""
    root = tmp_path / "Set5"
    (root / "HR").mkdir(parents=True)
    (root / "LRx2").mkdir()
    rng = np.random.default_rng(0)
    for name, (height, width) in (("one", (41, 36)), ("two", (52, 70))):
        hr = (255 * np.clip(imresize(rng.random((9, 9, 3)), size=(height, width)), 0, 1)).astype(
            np.uint8
        )
        write_image(root / "HR" / f"{name}.png", hr)
        cropped = hr[: height // 2 * 2, : width // 2 * 2]
        write_image(root / "LRx2" / f"{name}.png", imresize(cropped, 0.5))
    return root
