"""Reference of ``average_neighbors``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._layout import memory_format_of


def average_neighbors(
    image: Tensor,  # [B, C, H, W]
    class_map: Tensor,  # [B, H, W] uint8
    min_heavy: int,
    first_heavy: int,
) -> Tensor:
    """The image [B, C, H, W] with light pixels beside heavy ones averaged over their 3x3."""
    layout = memory_format_of(image)
    if min(image.shape[-2:]) < 3:
        return image.clone(memory_format=layout)
    heavy = class_map >= first_heavy
    beside = F.avg_pool2d(heavy[:, None].float(), 3, stride=1, divisor_override=1) >= min_heavy
    averaged = F.pad(beside, (1, 1, 1, 1)) & ~heavy[:, None]
    mean = F.pad(F.avg_pool2d(image, 3, stride=1), (1, 1, 1, 1))
    return torch.where(averaged, mean, image).contiguous(memory_format=layout)
