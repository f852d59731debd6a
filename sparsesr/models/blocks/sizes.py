"""Maps too small, or of the wrong parity, for the layer that follows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...engine import Steps, Value, lowers

# Wrapped: in a torch.fx graph each is one call, whose branch is taken when the size is known. That
# holds for calls through this module (`sizes.at_least`), not for names imported from it.


@torch.fx.wrap
def at_least(x: Tensor, side: int) -> Tensor:  # [N, C, H, W] -> [N, C, max(H, side), max(W, side)]
    """Repeat the last row and column until a window of ``side`` fits; larger maps come back as is.

    Example:
        >>> at_least(torch.zeros(1, 2, 1, 9), 3).shape
        torch.Size([1, 2, 3, 9])
    """
    rows, cols = side - x.shape[-2], side - x.shape[-1]
    if rows <= 0 and cols <= 0:
        return x
    return F.pad(x, (0, max(cols, 0), 0, max(rows, 0)), mode="replicate")


@torch.fx.wrap
def to_even(x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C, H + H % 2, W + W % 2]
    """Repeat the last row and column of an odd map; even ones come back as is.

    Example:
        >>> to_even(torch.zeros(1, 2, 3, 4)).shape
        torch.Size([1, 2, 4, 4])
    """
    rows, cols = x.shape[-2] % 2, x.shape[-1] % 2
    if rows == 0 and cols == 0:
        return x
    return F.pad(x, (0, cols, 0, rows), mode="replicate")


@lowers(at_least)
def _at_least(steps: Steps, x: Value, side: int) -> Value:
    return steps.pad(x, max(side - x.shape[1], 0), max(side - x.shape[2], 0))


@lowers(to_even)
def _to_even(steps: Steps, x: Value) -> Value:
    return steps.pad(x, x.shape[1] % 2, x.shape[2] % 2)
