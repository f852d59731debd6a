"""Published weights and test images, where they are: the folder that tests read them from, too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from torch import Tensor, nn

from sparsesr.io import read_image, to_tensor
from sparsesr.models.convert import convert

ROOT = Path(__file__).resolve().parents[1]


def shared_folder() -> Path:
    """$SPARSESR_SHARED, else ../shared beside the checkout; skips the bench where it is absent."""
    folder = Path(os.environ.get("SPARSESR_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs published weights and images: no folder {folder} (SPARSESR_SHARED)")
    return folder


def published(name: str) -> nn.Module:
    """The network of weights/NAME, in eval mode."""
    return convert(shared_folder() / "weights" / name)[0].eval()


def lr_images(dataset: str, scale: int) -> dict[str, Tensor]:
    """Name -> LR image [1,3,H,W] in [0,1], in the order of the names."""
    files = sorted((shared_folder() / "data" / dataset / f"LRx{scale}").glob("*.png"))
    return {path.stem: to_tensor(read_image(path)) for path in files}
