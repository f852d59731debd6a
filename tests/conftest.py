"""Fixtures of the whole suite: shared data, backends, devices."""

from __future__ import annotations

import os
from pathlib import Path

# Idle OpenMP threads that spin make a busy machine ten times slower; must be set before torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch

import sparsesr

ROOT = Path(__file__).resolve().parent.parent
# Triton's interpreter (TRITON_INTERPRET=1) takes CPU tensors.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE_OF = {
    "reference": "cpu",
    "cpu": "cpu",
    "cuda": "cuda",
    "triton": "cpu" if INTERPRETED else "cuda",
}


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    """Two threads are enough to exercise the threading, and the suite shares its machine."""
    torch.set_num_threads(2)


@pytest.fixture(scope="session", autouse=True)
def _exact_float32() -> None:
    """cuDNN, which references and gradients run on, takes TensorFloat-32 otherwise."""
    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with data, published weights and tables that the project does not carry."""
    folder = Path(os.environ.get("SPARSESR_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs the shared data: no folder {folder} (set SPARSESR_SHARED)")
    return folder


@pytest.fixture(params=["reference", "cpu", "cuda", "triton"])
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend in turn, active during the test; absent ones skip with their reason."""
    name = request.param
    status = {b.name: b for b in sparsesr.backends()}[name]
    if not status.available:
        pytest.skip(f"backend {name}: {status.reason}")
    with sparsesr.use_backend(name):
        yield name


@pytest.fixture
def device(backend: str) -> torch.device:
    """The device that the current backend runs on."""
    return torch.device(DEVICE_OF[backend])
