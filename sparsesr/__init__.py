"""sparsesr: sparse super-resolution whose skipped work is skipped time."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import ops
from ._backend import BackendStatus, backends, use_backend
from .complexity import Complexity, complexity
from .models import ModelInfo, create_model, from_pretrained, list_models
from .models.decompose import decompose
from .nn import MaskPredictor, RefineOutput, SparseRefine

if TYPE_CHECKING:
    from .inference import Upscaler

__version__ = "0.1.0"

__all__ = [
    "BackendStatus",
    "Complexity",
    "MaskPredictor",
    "ModelInfo",
    "RefineOutput",
    "SparseRefine",
    "Upscaler",
    "backends",
    "complexity",
    "create_model",
    "decompose",
    "from_pretrained",
    "list_models",
    "ops",
    "use_backend",
]

_LAZY = {"Upscaler": "inference"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _find_kernels() -> None:
    """Make ``sparsesr.kernels`` importable from a checkout: it lives in ``<root>/kernels``.

    An installed wheel has it in place. The folder has no ``__init__.py`` (that would shadow the
    package called ``kernels`` on an index), so a namespace package is registered for it.
    """
    name, folder = f"{__name__}.kernels", Path(__file__).resolve().parent.parent / "kernels"
    if importlib.util.find_spec(name) is None and folder.is_dir():
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        globals()["kernels"] = module


_find_kernels()
