"""The ``cpu`` backend: torch tensors in, calls of the compiled module ``sparsesr._native`` out.

Argument names and meanings are those of ``ops.reference``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _cpu_programs
from ._cpu_programs import refine_patches_, run_program
from ._layout import empty_like_format
from ._module import ABI, _load, _loaded, _view, available, build_info, load_error
from ._native_layers import DTYPES as _LAYER_DTYPES
from ._native_layers import average_neighbors, masked_block, masked_conv2d, route_mlp

__all__ = [
    "ABI",
    "DEVICES",
    "DTYPES",
    "_load",
    "_loaded",
    "_view",
    "available",
    "average_neighbors",
    "build_info",
    "gather_patches",
    "gather_patches_backward",
    "load_error",
    "masked_block",
    "masked_conv2d",
    "refine_patches_",
    "route_mlp",
    "run_program",
    "scatter_patches",
    "scatter_patches_",
    "scatter_patches_backward",
    "select_gather_patches",
    "select_patches",
]

DEVICES = ("cpu",)
DTYPES = {
    **_LAYER_DTYPES,
    "refine_patches_": _cpu_programs.DTYPES,
    "run_program": _cpu_programs.DTYPES,
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


def _is_mean(op: str, reduce: str) -> bool:
    if reduce not in ("replace", "mean"):
        raise ValueError(f"{op}: expected reduce 'replace' or 'mean', got {reduce!r}")
    return reduce == "mean"
