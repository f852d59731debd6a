"""The compiled module ``sparsesr._native``: loads it, and hands it tensors.

This is the only place that takes a tensor's address. ``_view`` checks what makes an address
meaningful (device, layout, dtype); the module checks shapes, strides and index values and raises
TypeError or ValueError before it writes anything.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import torch  # before the module: both then share torch's OpenMP runtime
from torch import Tensor

ABI = 9  # of the calls below; csrc/bindings.cpp holds the number it was built with

_DTYPES = {
    torch.float32: 0,
    torch.float16: 1,
    torch.bfloat16: 2,
    torch.float64: 3,
    torch.int32: 4,
    torch.bool: 5,
    torch.uint8: 6,
}
_HOST = torch.device("cpu")
_CPU = -1  # the module's number of the host; GPUs count from 0


def load_error() -> str | None:
    """Why the compiled module is not usable here and what to do, or None when it is."""
    return _error


def available() -> bool:
    """Whether the compiled module is loaded."""
    return _error is None


def build_info() -> dict[str, Any]:
    """What the compiled module says of itself: file, version, compiler, instruction sets, CUDA.

    Raises:
        RuntimeError: the module is not loaded; the text says why and what to do.
    """
    native = _loaded()
    return {
        "file": native.__file__,
        "version": native.version,
        "abi": native.abi,
        "compiler": native.compiler,
        "openmp": native.openmp,
        "cpu_isa": native.cpu_isa(),
        "cpu_isas": native.cpu_isas(),
        "cuda": native.cuda_info(),
    }


def _view(
    op: str, name: str, tensor: Tensor, device: torch.device = _HOST
) -> tuple[int, int, int, tuple, tuple]:
    """The tensor as the module reads it: (address, dtype, device, sizes, strides in elements).

    The caller keeps the tensor until the module has returned.
    """
    dtype = _DTYPES.get(tensor.dtype)
    strided = tensor.layout is torch.strided and not tensor.is_neg()
    if dtype is None or tensor.device != device or not strided:
        raise TypeError(
            f"{op}: expected {name} as a strided tensor on {device} of float32, float16, bfloat16, "
            f"float64, int32, bool or uint8, got {_describe(tensor)}"
        )
    number = _CPU if device.type == "cpu" else device.index
    return tensor.data_ptr(), dtype, number, tensor.shape, tensor.stride()


def _describe(tensor: Tensor) -> str:
    dtype, layout = (str(v).removeprefix("torch.") for v in (tensor.dtype, tensor.layout))
    lazy = " (lazily negated; pass tensor.resolve_neg())" if tensor.is_neg() else ""
    return f"{dtype} {layout} on {tensor.device}{lazy}"


def _loaded() -> Any:
    if _error is not None:
        raise RuntimeError(_error)
    return _module


def _load() -> tuple[Any, str | None]:
    """``(module, None)`` or ``(None, cause)``: what is absent or broken must not stop an import."""
    rebuild = "build it with `pip install -e .` in the checkout (needs a C++17 compiler)"
    if os.environ.get("SPARSESR_NATIVE") == "0":
        return None, "the native module is switched off by SPARSESR_NATIVE=0; unset it"
    try:
        module = importlib.import_module("sparsesr._native")
    except ModuleNotFoundError:
        return None, f"sparsesr._native is not built{_built_elsewhere()}; {rebuild}"
    except (ImportError, OSError) as error:  # a missing or older shared library, a wrong platform
        return (
            None,
            f"sparsesr._native does not load: {error} (torch {torch.__version__}); {rebuild}",
        )
    if getattr(module, "abi", None) != ABI:
        built = getattr(module, "version", "unknown")
        return None, (
            f"{module.__file__} is of another version of sparsesr (it was built from {built} with "
            f"ABI {getattr(module, 'abi', None)}, this code wants ABI {ABI}); re{rebuild}"
        )
    return module, None


def _built_elsewhere() -> str:
    """Names modules of other Python versions that lie in the package."""
    others = sorted(p.name for p in Path(__file__).resolve().parent.parent.glob("_native*.so"))
    return f" for this Python (found {', '.join(others)})" if others else ""


_module, _error = _load()
