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

log = logging.getLogger("sparsesr")

BACKENDS = ("reference", "cpu", "cuda", "triton")
_MODULES = {
    "reference": "sparsesr.ops.reference",
    "cpu": "sparsesr.ops._native",
}
_DEVICES = {"reference": None, "cpu": "cpu", "cuda": "cuda", "triton": "cuda"}
_PREFERENCE = {"cpu": ("cpu", "reference"), "cuda": ("cuda", "triton", "reference")}


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


def implementation(op: str, device: torch.device) -> Callable[..., Any]:
    """The function that runs ``op`` on tensors of ``device`` under the requested backend.

    Raises:
        RuntimeError: a backend asked for by name is absent, or runs on another device, or has no
            such op.
    """
    name = requested_backend()
    if name == "auto":
        for candidate in _PREFERENCE.get(device.type, ("reference",)):
            if _missing(candidate) is None and (found := _find(candidate, op)) is not None:
                if candidate == "reference":
                    _say_once(device.type)
                return found
    if (why := _missing(name)) is not None:
        raise RuntimeError(f"{op}: backend {name!r} is not available: {why}")
    wanted = _DEVICES[name]
    if wanted is not None and wanted != device.type:
        raise RuntimeError(
            f"{op}: backend {name!r} runs on {wanted} tensors, got {device}; "
            "move the tensor or use another backend"
        )
    found = _find(name, op)
    if found is None:
        raise RuntimeError(f"{op}: backend {name!r} does not implement it; use 'auto'")
    return found


_requested: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "sparsesr_backend", default=None
)


def _check_name(name: str, source: str) -> None:
    if name not in (*BACKENDS, "auto"):
        choices = ", ".join(("auto", *BACKENDS))
        raise ValueError(f"{source}: expected one of {choices}; got {name!r}")


@cache
def _missing(name: str) -> str | None:
    """Why a backend cannot run here, or None. Cached: a build does not appear in mid-process."""
    if name == "reference":
        return None
    if name == "cpu":
        return _module("cpu").load_error()
    if not torch.cuda.is_available():
        return "torch sees no CUDA GPU"
    return f"this version has no {name} ops yet; CUDA tensors run on the reference"


@cache
def _module(name: str) -> ModuleType:
    return importlib.import_module(_MODULES[name])


def _find(name: str, op: str) -> Callable[..., Any] | None:
    return getattr(_module(name), op, None) if name in _MODULES else None


@cache
def _say_once(device_type: str) -> None:
    reasons = "; ".join(
        f"{n}: {_missing(n)}" for n in _PREFERENCE.get(device_type, ()) if _missing(n)
    )
    log.info(
        "sparsesr ops on %s tensors run on the plain-torch reference (%s)", device_type, reasons
    )
