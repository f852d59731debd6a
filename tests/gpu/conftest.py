"""Tests that only a GPU can pass; `tools/gpu_check` runs them first."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

import sparsesr

BACKENDS = ("auto", "cuda", "triton")


@pytest.fixture(autouse=True)
def _gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


@pytest.fixture(params=BACKENDS)
def gpu_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The backends that run on a GPU, each active during the test."""
    missing = {b.name: b.reason for b in sparsesr.backends() if not b.available}
    if request.param in missing:
        pytest.skip(f"backend {request.param}: {missing[request.param]}")
    with sparsesr.use_backend(request.param):
        yield request.param


@pytest.fixture
def strict_sync() -> Iterator[None]:
    """Any wait for the device raises."""
    if os.environ.get("COMPUTE_SANITIZER") == "1":
        pytest.skip("the sanitizer waits for the device itself")
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")
