"""``scatter_patches``: patches back into a map, replacing or averaged where they overlap."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._checks import check_index, check_int, check_map, check_same, check_stride
from ._layout import empty_like_format
from ._library import define, define_autograd

REDUCTIONS = ("replace", "mean")


def scatter_patches(
    canvas: Tensor,  # [B, C, Hc, Wc]
    patches: Tensor,  # [B*k, C, p, p]
    index: Tensor,  # [B, k]
    patch_size: int,
    stride: int | None = None,
    reduce: str = "replace",
) -> Tensor:
    """A copy of ``canvas`` with the patches written where they lie.

    ``replace``: a covered pixel takes the value of its last patch in the order of ``index``.
    ``mean``: it takes the mean of all patches that cover it. Other pixels keep the canvas; what
    of a patch lies outside the canvas is dropped. Deterministic, no atomics; differentiable in
    canvas and patches, twice.

    Args:
        canvas: map [B, C, Hc, Wc], float32, bfloat16, float16 or float64; NCHW or channels_last.
        patches: [B*k, C, p, p], dtype and device of ``canvas``.
        index: patches [B, k] int32, distinct within an image, on the grid of the canvas.
        patch_size: side p of a patch in canvas pixels, >= 1.
        stride: distance between patches in canvas pixels; ``patch_size`` by default.
        reduce: "replace" or "mean" (accumulated in float32, float64 for float64).

    Returns:
        [B, C, Hc, Wc] in the memory format of ``canvas``.

    Raises:
        TypeError: a wrong type, dtype or device.
        ValueError: a wrong shape or size, an unknown reduction, or (on the CPU) an index outside
            the grid or named twice.

    Example:
        >>> index = torch.tensor([[0, 1]], dtype=torch.int32)
        >>> patches = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2)
        >>> scatter_patches(torch.zeros(1, 1, 2, 4), patches, index, 2, stride=1, reduce="mean")
        tensor([[[[1., 2., 3., 0.],
                  [1., 2., 3., 0.]]]])
    """
    window = _check("scatter_patches", canvas, patches, index, patch_size, stride, reduce)
    return torch.ops.sparsesr.scatter_patches.default(canvas, patches, index, *window)


def scatter_patches_(
    canvas: Tensor,
    patches: Tensor,
    index: Tensor,
    patch_size: int,
    stride: int | None = None,
    reduce: str = "replace",
) -> Tensor:
    """``scatter_patches`` in place; returns ``canvas``.

    Where a gradient is needed the result of ``scatter_patches`` is copied into the canvas, so
    that the gradient is right; the in-place rules of torch apply (no leaf that requires grad).
    """
    window = _check("scatter_patches_", canvas, patches, index, patch_size, stride, reduce)
    if torch.is_grad_enabled() and (canvas.requires_grad or patches.requires_grad):
        return canvas.copy_(
            torch.ops.sparsesr.scatter_patches.default(canvas, patches, index, *window)
        )
    torch.ops.sparsesr.scatter_patches_.default(canvas, patches, index, *window)
    return canvas


def _check(
    op: str,
    canvas: Tensor,
    patches: Tensor,
    index: Tensor,
    patch_size: int,
    stride: int | None,
    reduce: str,
) -> tuple[int, int, str]:
    check_map(op, "canvas", canvas)
    check_map(op, "patches", patches, "[B*k,C,p,p]")
    check_index(op, index, canvas, canvas.shape[0])
    check_same(op, "patches", patches, "canvas", canvas)
    patch_size = check_int(op, "patch_size", patch_size, 1)
    stride = check_stride(op, stride, patch_size)
    count = index.shape[0] * index.shape[1]
    expected = (count, canvas.shape[1], patch_size, patch_size)
    if tuple(patches.shape) != expected:
        raise ValueError(
            f"{op}: expected patches {list(expected)} for {count} indices and "
            f"{canvas.shape[1]} channels, got {list(patches.shape)}"
        )
    if reduce not in REDUCTIONS:
        raise ValueError(f"{op}: expected reduce 'replace' or 'mean', got {reduce!r}")
    return patch_size, stride, reduce


def _fake(
    canvas: Tensor, patches: Tensor, index: Tensor, patch_size: int, stride: int, reduce: str
) -> Tensor:
    return empty_like_format(tuple(canvas.shape), canvas)


def _fake_(
    canvas: Tensor, patches: Tensor, index: Tensor, patch_size: int, stride: int, reduce: str
) -> None:
    return None


def _fake_backward(
    grad: Tensor, index: Tensor, patch_size: int, stride: int, reduce: str
) -> tuple[Tensor, Tensor]:
    shape = (index.shape[0] * index.shape[1], grad.shape[1], patch_size, patch_size)
    return empty_like_format(tuple(grad.shape), grad), empty_like_format(shape, grad)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, index, *ctx.window = inputs
    ctx.save_for_backward(index)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (index,) = ctx.saved_tensors
    grads = torch.ops.sparsesr.scatter_patches_backward.default(grad, index, *ctx.window)
    return *grads, None, None, None, None


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, index, *ctx.window = inputs
    ctx.save_for_backward(index)


def _backward_backward(ctx: Any, grad_canvas: Tensor, grad_patches: Tensor) -> tuple[Any, ...]:
    # Both reductions are linear and their own second adjoint: covered pixels read the patches,
    # the others the canvas.
    (index,) = ctx.saved_tensors
    grad = torch.ops.sparsesr.scatter_patches.default(grad_canvas, grad_patches, index, *ctx.window)
    return grad, None, None, None, None


_ARGUMENTS = "Tensor patches, Tensor index, SymInt patch_size, SymInt stride, str reduce"
define(f"scatter_patches(Tensor canvas, {_ARGUMENTS}) -> Tensor", _fake)
define(f"scatter_patches_(Tensor(a!) canvas, {_ARGUMENTS}) -> ()", _fake_)
define(
    "scatter_patches_backward(Tensor grad, Tensor index, SymInt patch_size, SymInt stride,"
    " str reduce) -> (Tensor, Tensor)",
    _fake_backward,
)
define_autograd("scatter_patches", _backward, _setup)
define_autograd("scatter_patches_backward", _backward_backward, _setup_backward)
