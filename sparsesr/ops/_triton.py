"""The ``triton`` backend: torch tensors in, launches of the kernels in ``sparsesr.kernels`` out.

Importing this module does not import Triton. Argument names and meanings are those of
``ops.reference``. With TRITON_INTERPRET=1 in the environment the kernels run in Triton's
interpreter, slowly and without a GPU, and take CPU tensors too.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ._checks import check_grid, check_index, check_map, check_same
from ._gpu_packing import kept, on_device
from ._grid import patch_grid
from ._layout import empty_like_format, memory_format_of
from ._triton_programs import refine_patches_ as refine_patches_
from ._triton_routing import average_neighbors as average_neighbors
from ._triton_routing import route_mlp as route_mlp
from .reference._windows import check_index_distinct, check_index_range

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICES = ("cuda", "cpu") if INTERPRETED else ("cuda",)
_COMPUTED = (torch.float32, torch.bfloat16, torch.float16)
# The other ops take all.
DTYPES = dict.fromkeys(("masked_conv2d", "masked_block", "route_mlp", "refine_patches_"), _COMPUTED)


def load_error() -> str | None:
    """Why the backend cannot run here and what to do, or None."""
    missing = []
    if not INTERPRETED and not torch.cuda.is_available():
        build = torch.version.cuda or "no CUDA"
        missing.append(
            f"torch sees no CUDA GPU (torch {torch.__version__}, built with {build}; "
            "TRITON_INTERPRET=1 runs the kernels on CPU tensors, for tests)"
        )
    if importlib.util.find_spec("triton") is None:
        missing.append("triton is not installed: pip install triton")
    if importlib.util.find_spec("sparsesr.kernels") is None:
        missing.append("the package sparsesr.kernels is missing: install sparsesr again")
    return "; ".join(missing) or None


def select_patches(
    mask: Tensor,  # [B, Gh, Gw]
    k: int,
    largest: bool = True,
) -> Tensor:
    """Ascending indices [B, k] int32 of the k largest (or smallest) scores; NaN ranks last."""
    check_map("select_patches", "mask", mask, "[B,Gh,Gw]")
    index = _empty_index("select_patches", mask, k)
    with _on(mask):
        _kernels("select_patches").select_patches(mask, index, largest)
    return index


def gather_patches(
    x: Tensor,  # [B, C, H, W]
    index: Tensor,  # [B, k] int32
    patch_size: int,
    halo: int,
    stride: int,
) -> Tensor:
    """Windows [B*k, C, p+2h, p+2h] of ``x`` in its memory format; zero outside the map."""
    check_map("gather_patches", "x", x)
    check_index("gather_patches", index, x, x.shape[0])
    grid = _grid(index, x.shape[2], x.shape[3], patch_size, stride)
    patches = _empty_patches(index.numel(), x, patch_size + 2 * halo)
    with _on(x):
        _kernels("gather_patches").gather_patches(x, index, patches, halo, stride, grid)
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
    op = "gather_patches_backward"
    _check_patches(op, "grad", grad, index, patch_size + 2 * halo)
    grid = _grid(index, height, width, patch_size, stride)
    grad_x = empty_like_format((index.shape[0], grad.shape[1], height, width), grad)
    with _on(grad):
        _kernels("gather_patches").gather_patches_backward(grad, index, grad_x, halo, stride, grid)
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
    op = "select_gather_patches"
    check_map(op, "mask", mask, "[B,Gh,Gw]")
    check_map(op, "x", x)
    check_grid(op, mask, x, patch_size, stride)
    index = _empty_index(op, mask, k)
    patches = _empty_patches(index.numel(), x, patch_size + 2 * halo)
    with _on(x):
        _kernels(op).select_gather_patches(mask, x, index, patches, halo, stride, largest)
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
    out = empty_like_format(tuple(canvas.shape), canvas)
    _scatter("scatter_patches", canvas, patches, index, out, patch_size, stride, reduce)
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
    _scatter("scatter_patches_", canvas, patches, index, canvas, patch_size, stride, reduce)


def scatter_patches_backward(
    grad: Tensor,  # [B, C, Hc, Wc]
    index: Tensor,  # [B, k] int32
    patch_size: int,
    stride: int,
    reduce: str,
) -> tuple[Tensor, Tensor]:
    """Gradients of canvas [B,C,Hc,Wc] and patches [B*k,C,p,p], in the memory format of ``grad``."""
    op = "scatter_patches_backward"
    check_map(op, "grad", grad)
    check_index(op, index, grad, grad.shape[0])
    check_index_distinct(index)
    mean = _is_mean(op, reduce)
    grid = _grid(index, grad.shape[2], grad.shape[3], patch_size, stride)
    grad_canvas = empty_like_format(tuple(grad.shape), grad)
    grad_patches = _empty_patches(index.numel(), grad, patch_size)
    with _on(grad):
        _kernels("scatter_patches").scatter_patches_backward(
            grad, index, grad_canvas, grad_patches, stride, grid, mean
        )
    return grad_canvas, grad_patches


def masked_conv2d(
    x: Tensor,  # [B, Cin, H, W]
    weight: Tensor,  # [Cout, Cin, k, k]
    bias: Tensor | None,  # [Cout]
    mask: Tensor,  # [B, 1, H, W] bool
) -> Tensor:
    """The convolution where the mask is True, zero elsewhere; sums are float32."""
    op = "masked_conv2d"
    with _on(x):
        launch = _kernels(op)
        filters = kept(f"{op} triton", [weight], None, lambda: launch.pack(weight.detach()))
        out = _empty_pixels(x, weight.shape[0])
        launch.masked_conv2d(x, filters, _bias(bias), _bytes(mask), out, weight.shape[-1])
    return out.permute(0, 3, 1, 2).contiguous(memory_format=memory_format_of(x))


def masked_block(
    x: Tensor,  # [B, C, H, W]
    weights: Sequence[Tensor],  # L of [C, C, 3, 3]
    collect_weight: Tensor,  # [C', L*C, 1, 1]
    collect_bias: Tensor | None,  # [C']
    dense: Tensor,  # [L, C] bool, any device
    mask: Tensor,  # [B, 1, H, W] bool
) -> Tensor:
    """The features of all layers, collected; sums are float32."""
    op, tensors = "masked_block", [*weights, collect_weight]
    with _on(x):
        launch = _kernels(op)
        there = on_device(op, dense, x.device)

        def pack() -> Tensor:
            filters = [t.detach() for t in tensors]
            return launch.pack(filters[:-1], filters[-1], there)

        packed = kept(f"{op} triton", tensors, dense, pack)
        features = x.new_empty(launch.features_shape(len(weights), x))
        out = _empty_pixels(x, collect_weight.shape[0])
        bias = _bias(collect_bias)
        launch.masked_block(x, packed, _bytes(there), bias, _bytes(mask), features, out)
    return out.permute(0, 3, 1, 2).contiguous(memory_format=memory_format_of(x))


def _scatter(
    op: str,
    canvas: Tensor,
    patches: Tensor,
    index: Tensor,
    out: Tensor,
    patch_size: int,
    stride: int,
    reduce: str,
) -> None:
    check_map(op, "canvas", canvas)
    check_index(op, index, canvas, canvas.shape[0])
    _check_patches(op, "patches", patches, index, patch_size)
    check_same(op, "patches", patches, "canvas", canvas)
    if patches.shape[1] != canvas.shape[1]:
        raise ValueError(
            f"{op}: expected patches of {canvas.shape[1]} channels as canvas, "
            f"got {patches.shape[1]}"
        )
    check_index_distinct(index)
    mean = _is_mean(op, reduce)
    grid = _grid(index, canvas.shape[2], canvas.shape[3], patch_size, stride)
    with _on(canvas):
        _kernels("scatter_patches").scatter_patches(canvas, patches, index, out, stride, grid, mean)


def _check_patches(op: str, name: str, patches: Tensor, index: Tensor, side: int) -> None:
    """``patches`` [B*k, C, side, side]: kernels trust the shapes, not the index values."""
    check_map(op, name, patches, "[B*k,C,P,P]")
    check_index(op, index, patches, index.shape[0])
    expected = (index.numel(), side, side)
    if (patches.shape[0], *patches.shape[2:]) != expected:
        raise ValueError(
            f"{op}: expected {name} [{expected[0]},C,{side},{side}], got {list(patches.shape)}"
        )


def _grid(index: Tensor, height: int, width: int, patch_size: int, stride: int) -> tuple[int, int]:
    """The patch grid; on the CPU, where looking is free, the index is checked against it."""
    grid = patch_grid(height, width, patch_size, stride)
    check_index_range(index, grid[0] * grid[1])
    return grid


def _empty_index(op: str, mask: Tensor, k: int) -> Tensor:
    cells = mask.shape[1] * mask.shape[2]
    if not 0 <= k <= cells:
        raise ValueError(f"{op}: expected 0 <= k <= Gh*Gw = {cells}, got k = {k}")
    return mask.new_empty((mask.shape[0], k), dtype=torch.int32)


def _empty_patches(slots: int, like: Tensor, side: int) -> Tensor:
    return empty_like_format((slots, like.shape[1], side, side), like)


def _empty_pixels(x: Tensor, channels: int) -> Tensor:
    return x.new_empty((x.shape[0], x.shape[2], x.shape[3], channels))


def _bytes(mask: Tensor) -> Tensor:
    return mask.contiguous().view(torch.uint8)


def _bias(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach().contiguous()


def _is_mean(op: str, reduce: str) -> bool:
    if reduce not in ("replace", "mean"):
        raise ValueError(f"{op}: expected reduce 'replace' or 'mean', got {reduce!r}")
    return reduce == "mean"


def _on(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """The device of ``x`` as the current one: Triton launches there, on its current stream."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


@cache
def _kernels(op: str) -> Any:
    """The launch functions of an op; the first call imports Triton."""
    if (why := load_error()) is not None:
        raise RuntimeError(why)
    return importlib.import_module(f"sparsesr.kernels.{op}")
