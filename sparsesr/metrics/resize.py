"""MATLAB's bicubic ``imresize``: the resize that defines the LR images of the benchmarks."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Image = TypeVar("Image", np.ndarray, Tensor)


def imresize(
    image: Image,  # ndarray [H, W] or [H, W, C], uint8 or float; or float Tensor [..., H, W]
    scale: float | None = None,
    size: tuple[int, int] | None = None,
) -> Image:
    """Resize by MATLAB's bicubic rule (Keys' kernel with a = -0.5, antialiased when it shrinks).

    The kernel is stretched by 1/scale for scale < 1, its weights are normalised for each output
    pixel and the image is continued by mirroring with the edge pixel repeated.

    Args:
        image: ndarray [H, W] or [H, W, C], uint8 or floating; or a floating Tensor [..., H, W].
            Tensors stay differentiable and on their device.
        scale: positive factor for both sides; the output side is ceil(side * scale).
        size: output (height, width) in pixels; give either ``scale`` or ``size``.

    Returns:
        The same kind and dtype. Floats are neither clamped nor rounded (the kernel overshoots).
        uint8 is computed in float64 and rounded once at the end; MATLAB itself rounds after each
        axis for uint8, which moves about 14 % of the samples by one level.

    Raises:
        TypeError: neither a numpy array nor a tensor of those dtypes.
        ValueError: wrong rank, an empty image, none or both of ``scale`` and ``size``.
    """
    if isinstance(image, Tensor):
        rows, cols = _tensor_sides(image)
        return _resize_tensor(image, *_plans(rows, cols, scale, size))
    if isinstance(image, np.ndarray):
        rows, cols = _array_sides(image)
        return _resize_array(image, *_plans(rows, cols, scale, size))
    raise TypeError(f"imresize: expected ndarray or Tensor, got {type(image).__name__}")


def _tensor_sides(image: Tensor) -> tuple[int, int]:
    if image.dim() < 2:
        raise ValueError(f"imresize: expected a Tensor [..., H, W], got {tuple(image.shape)}")
    if not torch.is_floating_point(image):
        raise TypeError(
            f"imresize: expected a floating Tensor, got {image.dtype}; convert it to [0, 1]"
        )
    return image.shape[-2], image.shape[-1]


def _array_sides(image: np.ndarray) -> tuple[int, int]:
    if image.ndim not in (2, 3):
        raise ValueError(f"imresize: expected [H, W] or [H, W, C], got {image.shape}")
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise TypeError(f"imresize: expected uint8 or a floating dtype, got {image.dtype}")
    return image.shape[0], image.shape[1]


def _plans(rows: int, cols: int, scale: float | None, size: tuple[int, int] | None) -> tuple:
    if (scale is None) == (size is None):
        raise ValueError("imresize: give exactly one of scale and size")
    if rows < 1 or cols < 1:
        raise ValueError(f"imresize: the image is empty ({rows}x{cols})")
    if size is not None:
        out_rows, out_cols = (int(side) for side in size)
        if out_rows < 1 or out_cols < 1:
            raise ValueError(f"imresize: expected a size of at least 1x1, got {tuple(size)}")
        return (
            _contributions(rows, out_rows, out_rows / rows),
            _contributions(cols, out_cols, out_cols / cols),
        )
    assert scale is not None  # for the type checker; ruled out above
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"imresize: expected a positive scale, got {scale}")
    # 1e-9 keeps a product such as 3 * (1 / 3), one rounding step above an integer, from growing.
    sides = (math.ceil(rows * scale - 1e-9), math.ceil(cols * scale - 1e-9))
    return (
        _contributions(rows, max(1, sides[0]), float(scale)),
        _contributions(cols, max(1, sides[1]), float(scale)),
    )


@lru_cache(maxsize=256)
def _contributions(length: int, out: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Source indices [out, taps] int64 and weights [out, taps] float64 of one axis."""
    shrink = min(scale, 1.0)
    width = 4.0 / shrink
    centre = (np.arange(out) + 0.5) / scale - 0.5  # in source pixels, the first at 0
    left = np.floor(centre - width / 2 + 1)
    taps = left[:, None] + np.arange(math.ceil(width) + 1)
    weights = shrink * _cubic(shrink * (centre[:, None] - taps))
    weights /= weights.sum(axis=1, keepdims=True)
    used = np.any(weights != 0, axis=0)
    taps, weights = taps[:, used], weights[:, used]
    index = np.mod(taps.astype(np.int64), 2 * length)
    index = np.where(index < length, index, 2 * length - 1 - index)
    index.setflags(write=False)
    weights.setflags(write=False)
    return index, weights


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel, a = -0.5 (Keys 1981, eq. 15)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _resize_array(image: np.ndarray, rows: tuple, cols: tuple) -> np.ndarray:
    work = np.float32 if image.dtype in (np.float16, np.float32) else np.float64
    x = image.astype(work, copy=False)
    # The axis that shrinks more goes first: less work, the same result up to float rounding.
    row_ratio = len(rows[0]) / image.shape[0]
    col_ratio = len(cols[0]) / image.shape[1]
    for axis in (0, 1) if row_ratio <= col_ratio else (1, 0):
        x = _apply_array(x, axis, *(rows, cols)[axis])
    if image.dtype == np.uint8:
        return np.floor(np.clip(x, 0.0, 255.0) + 0.5).astype(np.uint8)
    return x.astype(image.dtype, copy=False)


def _apply_array(x: np.ndarray, axis: int, index: np.ndarray, weights: np.ndarray) -> np.ndarray:
    shape = [1] * x.ndim
    shape[axis] = len(index)
    total: Any = 0.0
    for tap in range(index.shape[1]):
        weight = weights[:, tap].astype(x.dtype).reshape(shape)
        total = total + np.take(x, index[:, tap], axis=axis) * weight
    return total


def _resize_tensor(image: Tensor, rows: tuple, cols: tuple) -> Tensor:
    work = image.dtype if image.dtype in (torch.float32, torch.float64) else torch.float32
    x = image.to(work)
    row_ratio = len(rows[0]) / image.shape[-2]
    col_ratio = len(cols[0]) / image.shape[-1]
    for axis in (-2, -1) if row_ratio <= col_ratio else (-1, -2):
        x = _apply_tensor(x, axis, *(rows, cols)[axis])
    return x.to(image.dtype)


def _apply_tensor(x: Tensor, axis: int, index: np.ndarray, weights: np.ndarray) -> Tensor:
    if axis == -1:
        # Picking whole rows is several times faster than picking single pixels of each.
        return _apply_tensor(x.mT.contiguous(), -2, index, weights).mT.contiguous()
    where = torch.tensor(index, device=x.device)
    weight = torch.tensor(weights, dtype=x.dtype, device=x.device).unsqueeze(1)
    total = x.index_select(-2, where[:, 0]) * weight[..., 0]
    for tap in range(1, index.shape[1]):
        total += x.index_select(-2, where[:, tap]).mul_(weight[..., tap])
    return total
