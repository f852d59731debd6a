"""Reference of ``masked_conv2d``."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .._layout import memory_format_of


def masked_conv2d(
    x: Tensor,  # [B, Cin, H, W]
    weight: Tensor,  # [Cout, Cin, k, k], k odd
    bias: Tensor | None,  # [Cout]
    mask: Tensor,  # [B, 1, H, W] bool
) -> Tensor:
    """The padded convolution [B, Cout, H, W] where the mask is True, zero elsewhere."""
    if x.shape[1] == 0:  # a sum of nothing, of which torch makes no channels at all
        x, weight = F.pad(x, (0, 0, 0, 0, 0, 1)), F.pad(weight, (0, 0, 0, 0, 0, 1))
    y = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    return y.where(mask, 0).contiguous(memory_format=memory_format_of(x))
