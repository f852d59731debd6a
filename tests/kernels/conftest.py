"""Fixtures of the Triton tests: where kernels run.

Kernels run on CPU tensors under TRITON_INTERPRET=1, which must be set before they are imported;
``test_interpreter`` starts such a process. On a machine with a GPU the same tests run on it.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
WITHOUT_TRITON = ("test_layering", "test_backend")
PATCH_OPS = ("select_patches", "gather_patches", "select_gather_patches", "scatter_patches")
OPS = (
    *PATCH_OPS,
    "masked_conv2d",
    "masked_block",
    "route_mlp",
    "average_neighbors",
    "refine_patches",
)


@pytest.fixture(autouse=True)
def _needs_triton(request: pytest.FixtureRequest) -> None:
    if request.path.stem not in WITHOUT_TRITON:
        pytest.importorskip("triton", reason="triton is not installed: pip install -e .[test]")


@pytest.fixture
def device() -> torch.device:
    """Where the kernels run."""
    if not INTERPRETED and not torch.cuda.is_available():
        pytest.skip("no GPU; test_interpreter runs this file in Triton's interpreter")
    return torch.device("cpu" if INTERPRETED else "cuda")


@pytest.fixture
def kernels() -> dict[str, ModuleType]:
    """The modules of launch functions by the name of their op."""
    return {op: importlib.import_module(f"sparsesr.kernels.{op}") for op in OPS}


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many programs where the interpreter would otherwise run one."""
    boxes = importlib.import_module("sparsesr.kernels._boxes")
    monkeypatch.setattr(boxes, "INTERPRETED_TILE", 512)
