"""What the backend says of itself where something is missing."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from sparsesr.ops import _triton


def _without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Every module is installed but ``names``."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in names else object())


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_triton, "INTERPRETED", False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    reason = _triton.load_error()
    assert reason is not None
    assert reason.startswith("torch sees no CUDA GPU")
    assert torch.__version__ in reason
    assert "TRITON_INTERPRET=1" in reason


def test_no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_triton, "INTERPRETED", True)
    _without(monkeypatch, "triton")
    assert _triton.load_error() == "triton is not installed: pip install triton"


def test_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_triton, "INTERPRETED", True)
    _without(monkeypatch, "sparsesr.kernels")
    assert _triton.load_error() == (
        "the package sparsesr.kernels is missing: install sparsesr again"
    )


def test_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_triton, "INTERPRETED", True)
    _without(monkeypatch)
    assert _triton.load_error() is None


def test_a_call_without_the_backend_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_triton, "load_error", lambda: "no such thing (test)")
    _triton._kernels.cache_clear()
    with pytest.raises(RuntimeError, match=r"no such thing \(test\)"):
        _triton.select_patches(torch.rand(1, 2, 2), 1)
