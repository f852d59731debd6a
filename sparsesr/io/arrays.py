"""8-bit arrays [H, W, 3] and float tensors [1, 3, H, W]."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_tensor(
    array: np.ndarray,  # [H, W, 3] uint8, or floating in [0, 1]
) -> Tensor:  # [1, 3, H, W] float32 in [0, 1]
    """Turn an image array into what the models take.

    Args:
        array: [H, W, 3]; uint8 is divided by 255, floats are taken as they are.

    Returns:
        A new contiguous [1, 3, H, W] float32 tensor.

    Raises:
        TypeError: not an ndarray of uint8 or a floating dtype.
        ValueError: not [H, W, 3].
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"to_tensor: expected an ndarray, got {type(array).__name__}")
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"to_tensor: expected [H, W, 3], got {array.shape}")
    if array.dtype == np.uint8:
        planes = np.ascontiguousarray(array.transpose(2, 0, 1))
        return torch.from_numpy(planes)[None].to(torch.float32) / 255
    if np.issubdtype(array.dtype, np.floating):
        planes = np.array(array.transpose(2, 0, 1), dtype=np.float32, order="C")
        return torch.from_numpy(planes)[None]
    raise TypeError(f"to_tensor: expected uint8 or a floating dtype, got {array.dtype}")


def to_array(
    tensor: Tensor,  # [1, 3, H, W] or [3, H, W]
) -> np.ndarray:  # [H, W, 3] uint8
    """Turn a model's output into an 8-bit image: clamp to [0, 1], times 255, round halves up.

    Args:
        tensor: [1, 3, H, W] or [3, H, W], floating, any device.

    Returns:
        [H, W, 3] uint8, contiguous.

    Raises:
        TypeError: not a floating tensor.
        ValueError: another shape, or values that are not finite.
    """
    if not isinstance(tensor, Tensor) or not torch.is_floating_point(tensor):
        got = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(f"to_array: expected a floating Tensor, got {got}")
    image = tensor.detach()
    if image.dim() == 4 and image.shape[0] == 1:
        image = image[0]
    if image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(f"to_array: expected [1, 3, H, W] or [3, H, W], got {tuple(tensor.shape)}")
    if not bool(torch.isfinite(image).all()):
        raise ValueError("to_array: the image has NaN or infinite values; try float32")
    levels = image.float().clamp(0, 1).mul(255).add_(0.5).floor_().to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous().cpu().numpy()
