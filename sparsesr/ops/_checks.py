"""Validation of op arguments: what was expected, what came, what to do."""

from __future__ import annotations

import torch
from torch import Tensor

from ._grid import patch_grid

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def check_map(op: str, name: str, x: object, layout: str = "[B,C,H,W]") -> Tensor:
    """A floating-point map of the rank of ``layout``, with at least one pixel."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: expected {name} {layout} as a tensor, got {type(x).__name__}")
    if x.dtype not in DTYPES:
        raise TypeError(
            f"{op}: expected {name} in float32, bfloat16, float16 or float64, got {_dtype(x)}"
        )
    if x.dim() != layout.count(",") + 1:
        raise ValueError(f"{op}: expected {name} {layout}, got shape {tuple(x.shape)}")
    if x.shape[-1] < 1 or x.shape[-2] < 1:
        raise ValueError(f"{op}: expected {name} of at least 1x1 px, got shape {tuple(x.shape)}")
    return x


def check_index(op: str, index: object, x: Tensor, batch: int, name: str = "index") -> Tensor:
    """Patch indices [B, k] int32 on the device of ``x``."""
    if not isinstance(index, Tensor):
        raise TypeError(f"{op}: expected {name} [B,k] as a tensor, got {type(index).__name__}")
    if index.dtype != torch.int32 or index.device != x.device:
        raise TypeError(
            f"{op}: expected {name} [B,k] int32 on {x.device}, "
            f"got {_dtype(index)} on {index.device}"
        )
    if index.dim() != 2 or index.shape[0] != batch:
        raise ValueError(f"{op}: expected {name} [{batch},k], got shape {tuple(index.shape)}")
    return index


def check_int(op: str, name: str, value: object, low: int) -> int:
    """An integer >= ``low``; a symbolic integer of a trace counts, a bool does not."""
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"{op}: expected {name} as an int, got {type(value).__name__}")
    if value < low:
        raise ValueError(f"{op}: expected {name} >= {low}, got {value}")
    return value  # type: ignore[return-value]


def check_stride(op: str, stride: object, patch_size: int) -> int:
    """The distance between patches: ``patch_size`` when None."""
    return patch_size if stride is None else check_int(op, "stride", stride, 1)


def check_same(op: str, name: str, y: Tensor, other: str, x: Tensor) -> None:
    """``y`` has dtype and device of ``x``."""
    if y.dtype != x.dtype or y.device != x.device:
        raise TypeError(
            f"{op}: expected {name} in {_dtype(x)} on {x.device} as {other}, "
            f"got {_dtype(y)} on {y.device}"
        )


def check_grid(op: str, mask: Tensor, x: Tensor, patch_size: int, stride: int) -> None:
    """``mask`` [B,Gh,Gw] has one score for every patch of ``x``."""
    grid = patch_grid(x.shape[-2], x.shape[-1], patch_size, stride)
    expected = (x.shape[0], *grid)
    if tuple(mask.shape) != expected:
        raise ValueError(
            f"{op}: expected mask {list(expected)} (one score per patch of {patch_size} px at "
            f"stride {stride} of a {x.shape[-2]}x{x.shape[-1]} map), got {list(mask.shape)}"
        )


def check_bias(op: str, name: str, bias: object, outputs: int, x: Tensor) -> None:
    """``bias`` [outputs] in dtype and on the device of ``x``, or None."""
    if bias is None:
        return
    if not isinstance(bias, Tensor):
        raise TypeError(f"{op}: expected {name} as a tensor or None, got {type(bias).__name__}")
    check_same(op, name, bias, "x", x)
    if tuple(bias.shape) != (outputs,):
        raise ValueError(f"{op}: expected {name} [{outputs}], got {list(bias.shape)}")


def check_pixel_mask(op: str, mask: object, x: Tensor) -> None:
    """``mask`` [B,1,H,W] bool has one entry for every pixel of ``x`` [B,C,H,W]."""
    expected = f"{op}: expected mask [B,1,H,W] bool on {x.device}"
    if not isinstance(mask, Tensor):
        raise TypeError(f"{expected}, got {type(mask).__name__}")
    if mask.dtype != torch.bool:
        raise TypeError(f"{expected}, got {_dtype(mask)}; threshold it: mask > 0.5")
    if mask.device != x.device:
        raise TypeError(f"{expected} as x, got bool on {mask.device}")
    shape = (x.shape[0], 1, *x.shape[2:])
    if tuple(mask.shape) != shape:
        raise ValueError(
            f"{op}: expected mask {list(shape)} (one entry per pixel of x {list(x.shape)}), "
            f"got {list(mask.shape)}"
        )


def check_class_map(op: str, class_map: object, x: Tensor, size: tuple[int, ...]) -> None:
    """``class_map`` [B,H,W] uint8 on the device of ``x``, one class for every HR pixel."""
    expected = f"{op}: expected class_map [B,H,W] uint8 on {x.device}"
    if not isinstance(class_map, Tensor):
        raise TypeError(f"{expected}, got {type(class_map).__name__}")
    if class_map.dtype != torch.uint8 or class_map.device != x.device:
        raise TypeError(f"{expected}, got {_dtype(class_map)} on {class_map.device}")
    if tuple(class_map.shape) != (x.shape[0], *size):
        raise ValueError(
            f"{op}: expected class_map {[x.shape[0], *size]} (one class for every HR pixel), "
            f"got {list(class_map.shape)}"
        )


def check_k(op: str, k: object, cells: int) -> int:
    """0 <= k <= number of patches."""
    k = check_int(op, "k", k, 0)
    if k > cells:
        raise ValueError(f"{op}: expected k <= Gh*Gw = {cells}, got k = {k}")
    return k


def _dtype(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
