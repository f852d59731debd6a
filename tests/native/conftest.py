"""Fixtures of the native tests: every test that asks for ``isa`` runs once per instruction set."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest
import torch

from sparsesr.ops import _native

ISAS = ("avx512bf16", "avx512", "avx2", "portable")


@pytest.fixture(autouse=True)
def _built() -> None:
    if not _native.available():
        pytest.skip(f"native module: {_native.load_error()}")


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test on one compiled variant of the CPU kernels."""
    module = importlib.import_module("sparsesr._native")
    if request.param not in module.cpu_isas():
        pytest.skip(f"this CPU runs {', '.join(module.cpu_isas())}, not {request.param}")
    before = module.cpu_isa()
    module.set_cpu_isa(request.param)
    yield request.param
    module.set_cpu_isa(before)


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores torch's thread count."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
