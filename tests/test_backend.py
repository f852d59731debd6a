"""Backend choice: explicit requests never fall back, ``auto`` says when it does."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

import sparsesr
from sparsesr import _backend, _gpu_choice
from sparsesr.ops import masked_conv2d, select_patches

MASK = torch.rand(1, 3, 3)


def test_choice_on_a_gpu(root: Path) -> None:
    """The table names its evidence as soon as there is any, and covers every size of every op."""
    results = {path.name for path in (root / "bench" / "results").glob("gpu-*.json")}
    if _gpu_choice.EVIDENCE is None:
        assert not results, "measured: let the rows decide CHOICE, and name the file"
    else:
        assert _gpu_choice.EVIDENCE in results
    registered = {
        n.split("::")[1] for n in torch._C._dispatch_get_all_op_names() if "sparsesr" in n
    }
    assert set(_gpu_choice.CHOICE) <= registered
    for op in registered:
        for elements in (0, 1, 10**6, 10**12):
            assert sorted(_gpu_choice.preference(op, elements)) == ["cuda", "reference", "triton"]


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match="expected one of auto, reference, cpu, cuda, triton"):
        sparsesr.use_backend("gpu").__enter__()


def test_reset_after_the_block_and_after_an_error() -> None:
    before = _backend.requested_backend()
    with pytest.raises(KeyError), sparsesr.use_backend("reference"):
        raise KeyError
    assert _backend.requested_backend() == before


def test_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSESR_BACKEND", "reference")
    assert _backend.requested_backend() == "reference"
    monkeypatch.setenv("SPARSESR_BACKEND", "fast")
    with pytest.raises(ValueError, match="SPARSESR_BACKEND: expected one of"):
        select_patches(MASK, 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is present")
@pytest.mark.parametrize("name", ["cuda", "triton"])
def test_absent_backend_explains(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=f"backend '{name}' is not available: torch sees no"):
        sparsesr.use_backend(name).__enter__()
    monkeypatch.setenv("SPARSESR_BACKEND", name)
    with pytest.raises(RuntimeError, match=r"select_patches: backend .* is not available"):
        select_patches(MASK, 1)


def _without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {"cpu": "the native module is missing (test)"}
    monkeypatch.setattr(_backend, "_missing", lambda name: reasons.get(name))


def test_auto_falls_back_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _without_native(monkeypatch)
    _backend._say_once.cache_clear()
    with caplog.at_level(logging.INFO, logger="sparsesr"), sparsesr.use_backend("auto"):
        select_patches(MASK, 1)
        select_patches(MASK, 1)
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 1
    assert "reference (cpu: the native module is missing (test))" in said[0]


def test_explicit_request_does_not_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSESR_BACKEND", "cpu")
    _without_native(monkeypatch)
    with pytest.raises(RuntimeError, match="native module is missing"):
        select_patches(MASK, 1)


def test_wrong_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_backend, "_missing", lambda name: None)
    with (
        sparsesr.use_backend("cuda"),
        pytest.raises(RuntimeError, match="backend 'cuda' runs on cuda tensors, got cpu"),
    ):
        _backend.implementation("select_patches", MASK)


def test_backends_lists_all() -> None:
    found = sparsesr.backends()
    assert [b.name for b in found] == ["reference", "cpu", "cuda", "triton"]
    assert found[0].available
    assert all(b.reason for b in found)


def test_a_dtype_that_a_backend_lacks() -> None:
    """By name it is an error that lists what there is; ``auto`` goes on to the next backend."""
    if _backend._missing("cpu") is not None:
        pytest.skip("needs the native module")
    x, weight = torch.rand(1, 2, 5, 4).double(), torch.rand(3, 2, 3, 3).double()
    mask = torch.ones(1, 1, 5, 4, dtype=torch.bool)
    expected = torch.nn.functional.conv2d(x, weight, padding=1)
    with (
        sparsesr.use_backend("cpu"),
        pytest.raises(TypeError, match="computes float32, bfloat16, float16, got float64; use"),
    ):
        masked_conv2d(x, weight, None, mask)
    with sparsesr.use_backend("auto"):
        torch.testing.assert_close(masked_conv2d(x, weight, None, mask), expected)


def test_whether_an_op_runs_natively(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(1, 2, 5, 4)
    native = _backend._missing("cpu") is None
    assert _backend.runs_natively("masked_conv2d", x) == native
    assert not _backend.runs_natively("masked_conv2d", x.double())  # a dtype it lacks
    assert not _backend.runs_natively("masked_conv2d", x.to("meta"))
    assert not _backend.runs_natively("no_such_op", x)
    with sparsesr.use_backend("reference"):
        assert not _backend.runs_natively("masked_conv2d", x)
    monkeypatch.setattr(_backend, "_missing", lambda name: None)
    with sparsesr.use_backend("cuda"):
        assert not _backend.runs_natively("masked_conv2d", x)  # another device, and no error
