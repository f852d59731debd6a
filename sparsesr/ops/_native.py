"""The ``cpu`` backend: torch tensors in, calls of the compiled module ``sparsesr._native`` out.

It loads the module, for the ``cuda`` backend too, and is the only place that takes a tensor's
address. ``_view`` checks what makes an address meaningful (device, layout, dtype); the module
checks shapes, strides and index values and raises TypeError or ValueError before it writes
anything. Argument names and meanings are those of ``ops.reference``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch  # before the module: both then share torch's OpenMP runtime
from torch import Tensor

from ._layout import empty_like_format, memory_format_of
from ._packing import Cache, PackedBlock, PackingRule, pack_block, pack_conv

DEVICES = ("cpu",)
_COMPUTED = (torch.float32, torch.bfloat16, torch.float16)
DTYPES = {"masked_conv2d": _COMPUTED, "masked_block": _COMPUTED}  # the other ops take all
ABI = 3  # of the calls below; csrc/bindings.cpp holds the number it was built with

_DTYPES = {
    torch.float32: 0,
    torch.float16: 1,
    torch.bfloat16: 2,
    torch.float64: 3,
    torch.int32: 4,
    torch.bool: 5,
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


def select_patches(
    mask: Tensor,  # [B, Gh, Gw]
    k: int,
    largest: bool = True,
) -> Tensor:
    """Ascending indices [B, k] int32 of the k largest (or smallest) scores; NaN ranks last."""
    index = torch.empty((mask.shape[0], k), dtype=torch.int32)
    _loaded().cpu.select_patches(
        _view("select_patches", "mask", mask),
        _view("select_patches", "index", index),
        largest,
        torch.get_num_threads(),
    )
    return index


def gather_patches(
    x: Tensor,  # [B, C, H, W]
    index: Tensor,  # [B, k] int32
    patch_size: int,
    halo: int,
    stride: int,
) -> Tensor:
    """Windows [B*k, C, p+2h, p+2h] of ``x`` in its memory format; zero outside the map."""
    native = _loaded()
    index = index.contiguous()  # held until the call returns: a view is but an address
    side = patch_size + 2 * halo
    patches = empty_like_format((index.numel(), x.shape[1], side, side), x)
    if patches.numel() > 0:
        native.cpu.gather_patches(
            _view("gather_patches", "x", x),
            _view("gather_patches", "index", index),
            _view("gather_patches", "patches", patches),
            patch_size,
            halo,
            stride,
            torch.get_num_threads(),
        )
    return patches


def gather_patches_backward(
    grad: Tensor,  # [B*k, C, P, P]
    index: Tensor,  # [B, k] int32
    height: int,
    width: int,
    patch_size: int,
    halo: int,
    stride: int,
) -> Tensor:
    """The sum of all windows that cover a pixel, [B, C, H, W] in the memory format of ``grad``."""
    native = _loaded()
    index = index.contiguous()  # held until the call returns: a view is but an address
    grad_x = empty_like_format((index.shape[0], grad.shape[1], height, width), grad)
    if grad_x.numel() > 0:
        native.cpu.gather_patches_backward(
            _view("gather_patches_backward", "grad", grad),
            _view("gather_patches_backward", "index", index),
            _view("gather_patches_backward", "grad_x", grad_x),
            patch_size,
            halo,
            stride,
            torch.get_num_threads(),
        )
    return grad_x


def select_gather_patches(
    mask: Tensor,  # [B, Gh, Gw]
    x: Tensor,  # [B, C, H, W]
    k: int,
    patch_size: int,
    halo: int,
    stride: int,
    largest: bool = True,
) -> tuple[Tensor, Tensor]:
    """``(patches, index)``: the k best patches of ``x`` and where they lie, in one call."""
    native = _loaded()
    side = patch_size + 2 * halo
    index = torch.empty((mask.shape[0], k), dtype=torch.int32)
    patches = empty_like_format((index.numel(), x.shape[1], side, side), x)
    native.cpu.select_gather_patches(
        _view("select_gather_patches", "mask", mask),
        _view("select_gather_patches", "x", x),
        _view("select_gather_patches", "index", index),
        _view("select_gather_patches", "patches", patches),
        patch_size,
        halo,
        stride,
        largest,
        torch.get_num_threads(),
    )
    return patches, index


def scatter_patches(
    canvas: Tensor,  # [B, C, Hc, Wc]
    patches: Tensor,  # [B*k, C, p, p]
    index: Tensor,  # [B, k] int32
    patch_size: int,
    stride: int,
    reduce: str,
) -> Tensor:
    """``canvas`` with the patches written or averaged where they lie, in its memory format."""
    native = _loaded()
    index = index.contiguous()  # held until the call returns: a view is but an address
    out = empty_like_format(tuple(canvas.shape), canvas)
    if out.numel() > 0:
        native.cpu.scatter_patches(
            _view("scatter_patches", "canvas", canvas),
            _view("scatter_patches", "patches", patches),
            _view("scatter_patches", "index", index),
            _view("scatter_patches", "out", out),
            patch_size,
            stride,
            _is_mean("scatter_patches", reduce),
            torch.get_num_threads(),
        )
    return out


def scatter_patches_(
    canvas: Tensor,  # [B, C, Hc, Wc], written
    patches: Tensor,  # [B*k, C, p, p]
    index: Tensor,  # [B, k] int32
    patch_size: int,
    stride: int,
    reduce: str,
) -> None:
    """``scatter_patches`` in place; ``patches`` must not share memory with ``canvas``."""
    native = _loaded()
    index = index.contiguous()  # held until the call returns: a view is but an address
    if patches.numel() > 0 and canvas.numel() > 0:
        view = _view("scatter_patches_", "canvas", canvas)
        native.cpu.scatter_patches(
            view,
            _view("scatter_patches_", "patches", patches),
            _view("scatter_patches_", "index", index),
            view,
            patch_size,
            stride,
            _is_mean("scatter_patches_", reduce),
            torch.get_num_threads(),
        )


def scatter_patches_backward(
    grad: Tensor,  # [B, C, Hc, Wc]
    index: Tensor,  # [B, k] int32
    patch_size: int,
    stride: int,
    reduce: str,
) -> tuple[Tensor, Tensor]:
    """Gradients of canvas [B,C,Hc,Wc] and patches [B*k,C,p,p], in the memory format of ``grad``."""
    native = _loaded()
    index = index.contiguous()  # held until the call returns: a view is but an address
    shape = (index.numel(), grad.shape[1], patch_size, patch_size)
    grad_canvas = empty_like_format(tuple(grad.shape), grad)
    grad_patches = empty_like_format(shape, grad)
    if grad_canvas.numel() > 0:
        native.cpu.scatter_patches_backward(
            _view("scatter_patches_backward", "grad", grad),
            _view("scatter_patches_backward", "index", index),
            _view("scatter_patches_backward", "grad_canvas", grad_canvas),
            _view("scatter_patches_backward", "grad_patches", grad_patches),
            patch_size,
            stride,
            _is_mean("scatter_patches_backward", reduce),
            torch.get_num_threads(),
        )
    return grad_canvas, grad_patches


def masked_conv2d(
    x: Tensor,  # [B, Cin, H, W]
    weight: Tensor,  # [Cout, Cin, k, k]
    bias: Tensor | None,  # [Cout]
    mask: Tensor,  # [B, 1, H, W] bool
) -> Tensor:
    """The convolution where the mask is True, zero elsewhere; sums are float32."""
    op, native = "masked_conv2d", _loaded()
    pixels, rule = _pixels(x)
    packed = _packed.get(
        (op, rule, tuple(weight.shape), weight.stride(), weight.dtype, weight.data_ptr()),
        [weight],
        lambda: PackedBlock(pack_conv(weight, rule), []),
    )
    shape = (x.shape[0], weight.shape[0], x.shape[2], x.shape[3])
    out = torch.empty(shape, memory_format=torch.channels_last).zero_()
    offsets = _bias(bias)
    if out.numel() > 0:
        native.cpu.masked_conv2d(
            _view(op, "x", pixels),
            _view(op, "weights", packed.weights),
            weight.shape[-1],
            _view(op, "bias", offsets),
            _view(op, "mask", mask),
            _view(op, "out", out),
            torch.get_num_threads(),
        )
    return out.to(x.dtype, memory_format=memory_format_of(x))


def masked_block(
    x: Tensor,  # [B, C, H, W]
    weights: Sequence[Tensor],  # L of [C, C, 3, 3]
    collect_weight: Tensor,  # [C', L*C, 1, 1]
    collect_bias: Tensor | None,  # [C']
    dense: Tensor,  # [L, C] bool, any device
    mask: Tensor,  # [B, 1, H, W] bool
) -> Tensor:
    """The features of all layers, collected; sums are float32."""
    op, native = "masked_block", _loaded()
    pixels, rule = _pixels(x)
    tensors = [*weights, collect_weight]
    dense = dense.cpu()
    places = tuple((t.data_ptr(), t.stride(), t.dtype) for t in tensors)
    packed = _packed.get(
        (op, rule, dense.numpy().tobytes(), tuple(collect_weight.shape), places),
        tensors,
        lambda: pack_block(weights, collect_weight, dense, rule),
    )
    batch, channels, height, width = x.shape
    shape = (batch, collect_weight.shape[0], height, width)
    out = torch.empty(shape, memory_format=torch.channels_last)
    pitch = (channels + -channels % rule.lanes) // rule.depth
    maps = [torch.empty(height * width * pitch) for _ in range(2)]
    offsets = _bias(collect_bias)
    if out.numel() > 0:
        native.cpu.masked_block(
            _view(op, "x", pixels),
            _view(op, "weights", packed.weights),
            packed.dense,
            _view(op, "bias", offsets),
            _view(op, "mask", mask),
            _view(op, "features", maps[0]),
            _view(op, "other", maps[1]),
            _view(op, "out", out),
            torch.get_num_threads(),
        )
    return out.to(x.dtype, memory_format=memory_format_of(x))


def _pixels(x: Tensor) -> tuple[Tensor, PackingRule]:
    """``x`` as the masked kernels read it, and how they want their weights then.

    Channels lie side by side; bfloat16 stays where the CPU multiplies it and the channels make
    pairs, the other 16-bit maps become float32. ``x`` itself where it is so already.
    """
    native = _loaded()
    pairs = x.dtype == torch.bfloat16 and x.shape[1] % 2 == 0
    rule = PackingRule(*native.cpu.packing_rule(pairs))
    x = x if rule.depth == 2 else x.float()
    if x.stride(1) != 1 and x.shape[1] != 1:
        return x.contiguous(memory_format=torch.channels_last), rule
    if rule.depth == 2 and _splits_pairs(x):
        return x.clone(memory_format=torch.channels_last), rule
    return x, rule


def _splits_pairs(x: Tensor) -> bool:
    """Whether some pair of adjacent channels does not lie in one aligned unit of 32 bits."""
    return any(x.stride(d) % 2 for d in (0, 2, 3)) or x.data_ptr() % 4 != 0


def _bias(bias: Tensor | None) -> Tensor:
    return torch.empty(0) if bias is None else bias.detach().float().contiguous()


def _view(
    op: str, name: str, tensor: Tensor, device: torch.device = _HOST
) -> tuple[int, int, int, tuple, tuple]:
    """The tensor as the module reads it: (address, dtype, device, sizes, strides in elements)."""
    dtype = _DTYPES.get(tensor.dtype)
    strided = tensor.layout is torch.strided and not tensor.is_neg()
    if dtype is None or tensor.device != device or not strided:
        raise TypeError(
            f"{op}: expected {name} as a strided tensor on {device} of float32, float16, bfloat16, "
            f"float64, int32 or bool, got {_describe(tensor)}"
        )
    number = _CPU if device.type == "cpu" else device.index
    return tensor.data_ptr(), dtype, number, tensor.shape, tensor.stride()


def _describe(tensor: Tensor) -> str:
    dtype, layout = (str(v).removeprefix("torch.") for v in (tensor.dtype, tensor.layout))
    lazy = " (lazily negated; pass tensor.resolve_neg())" if tensor.is_neg() else ""
    return f"{dtype} {layout} on {tensor.device}{lazy}"


def _is_mean(op: str, reduce: str) -> bool:
    if reduce not in ("replace", "mean"):
        raise ValueError(f"{op}: expected reduce 'replace' or 'mean', got {reduce!r}")
    return reduce == "mean"


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


_packed = Cache()
_module, _error = _load()
