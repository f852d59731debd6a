"""Which implementation of the ops runs: ``reference``, ``cpu``, ``cuda``, ``triton`` or ``auto``.

``auto`` takes the fastest implementation present for the tensor's device and says once, at INFO,
when that is only the reference. A backend asked for by name never falls back: the call raises and
explains what is missing.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch

from ._gpu_choice import preference

log = logging.getLogger("sparsesr")

BACKENDS = ("reference", "cpu", "cuda", "triton")
# Beside the ops, each of them but the reference has `load_error()` and `DEVICES`.
_MODULES = {
    "reference": "sparsesr.ops.reference",
    "cpu": "sparsesr.ops._native",
    "cuda": "sparsesr.ops._cuda",
    "triton": "sparsesr.ops._triton",
}


@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend can run here, and if not, why."""

    name: str
    available: bool
    reason: str


def backends() -> list[BackendStatus]:
    """The state of every backend on this machine, in the order of ``BACKENDS``.

    Example:
        >>> [b.name for b in backends()]
        ['reference', 'cpu', 'cuda', 'triton']
        >>> backends()[0].available
        True
    """
    return [
        BackendStatus(n, why is None, why or "ready") for n in BACKENDS for why in [_missing(n)]
    ]


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run the ops inside the ``with`` block on one backend.

    Args:
        name: ``"auto"``, ``"reference"``, ``"cpu"``, ``"cuda"`` or ``"triton"``.

    Raises:
        ValueError: an unknown name.
        RuntimeError: the backend cannot run here; the text says what is missing.

    Example:
        >>> with use_backend("reference"):
        ...     requested_backend()
        'reference'
    """
    _check_name(name, "use_backend")
    if name != "auto" and (why := _missing(name)) is not None:
        raise RuntimeError(f"backend {name!r} is not available: {why}")
    token = _requested.set(name)
    try:
        yield
    finally:
        _requested.reset(token)


def requested_backend() -> str:
    """The backend asked for: by ``use_backend``, else by SPARSESR_BACKEND, else ``"auto"``."""
    name = _requested.get()
    if name is None:
        name = os.environ.get("SPARSESR_BACKEND", "auto") or "auto"
        _check_name(name, "SPARSESR_BACKEND")
    return name


def implementation(op: str, first: torch.Tensor) -> Callable[..., Any]:
    """The function that runs ``op`` on its ``first`` tensor under the requested backend.

    Raises:
        RuntimeError: a backend asked for by name is absent, or runs on another device, or has no
            such op.
        TypeError: ... or has it, but not for this dtype.
    """
    name, device = requested_backend(), first.device
    if name == "auto":
        for candidate in _preference(op, first):
            if _missing(candidate) is not None or not _computes(candidate, op, first.dtype):
                continue
            if (found := _find(candidate, op)) is not None:
                if candidate == "reference":
                    _say_once(device.type)
                return found
    if (why := _missing(name)) is not None:
        raise RuntimeError(f"{op}: backend {name!r} is not available: {why}")
    if name != "reference" and device.type not in _module(name).DEVICES:
        raise RuntimeError(
            f"{op}: backend {name!r} runs on {' or '.join(_module(name).DEVICES)} tensors, "
            f"got {device}; move the tensor or use another backend"
        )
    found = _find(name, op)
    if found is None:
        raise RuntimeError(f"{op}: backend {name!r} does not implement it; use 'auto'")
    if not _computes(name, op, first.dtype):
        dtypes = ", ".join(str(d).removeprefix("torch.") for d in _module(name).DTYPES[op])
        raise TypeError(
            f"{op}: backend {name!r} computes {dtypes}, got "
            f"{str(first.dtype).removeprefix('torch.')}; use 'auto' or 'reference'"
        )
    return found


def runs_natively(op: str, first: torch.Tensor) -> bool:
    """Whether the requested backend runs ``op`` on its ``first`` tensor without the reference.

    Example:
        >>> with use_backend("reference"):
        ...     runs_natively("gather_patches", torch.zeros(1, 1, 4, 4))
        False
    """
    name = requested_backend()
    candidates = _preference(op, first) if name == "auto" else (name,)
    return any(
        candidate != "reference"
        and _missing(candidate) is None
        and first.device.type in _module(candidate).DEVICES
        and _find(candidate, op) is not None
        and _computes(candidate, op, first.dtype)
        for candidate in candidates
    )


_requested: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "sparsesr_backend", default=None
)


def _check_name(name: str, source: str) -> None:
    if name not in (*BACKENDS, "auto"):
        choices = ", ".join(("auto", *BACKENDS))
        raise ValueError(f"{source}: expected one of {choices}; got {name!r}")


def _preference(op: str, first: torch.Tensor) -> tuple[str, ...]:
    if first.is_cuda:
        return preference(op, first.numel())
    return ("cpu", "reference") if first.is_cpu else ("reference",)


@cache
def _missing(name: str) -> str | None:
    """Why a backend cannot run here, or None. Cached: a build does not appear in mid-process."""
    return None if name == "reference" else _module(name).load_error()


@cache
def _module(name: str) -> ModuleType:
    return importlib.import_module(_MODULES[name])


def _find(name: str, op: str) -> Callable[..., Any] | None:
    return getattr(_module(name), op, None)


def _computes(name: str, op: str, dtype: torch.dtype) -> bool:
    """Whether a backend has the op for this dtype: its ``DTYPES`` lists ops that lack some."""
    dtypes = getattr(_module(name), "DTYPES", {}).get(op)
    return dtypes is None or dtype in dtypes


@cache
def _say_once(device_type: str) -> None:
    present = {"cpu": ("cpu",), "cuda": ("cuda", "triton")}.get(device_type, ())
    reasons = "; ".join(f"{n}: {_missing(n)}" for n in present if _missing(n))
    if reasons:
        log.info(
            "sparsesr ops on %s tensors run on the plain-torch reference (%s)", device_type, reasons
        )
