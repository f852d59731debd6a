"""Reference of ``masked_block``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .._layout import memory_format_of


def masked_block(
    x: Tensor,  # [B, C, H, W]
    weights: Sequence[Tensor],  # L of [C, C, 3, 3]
    collect_weight: Tensor,  # [C', L*C, 1, 1]
    collect_bias: Tensor | None,  # [C']
    dense: Tensor,  # [L, C] bool, any device
    mask: Tensor,  # [B, 1, H, W] bool
) -> Tensor:
    """The features of all layers, collected by a 1x1 convolution: [B, C', H, W]."""
    channels = dense.to(x.device)[:, None, :, None, None]  # d of every layer, [L, 1, C, 1, 1]
    feature = F.conv2d(x, weights[0], padding=1).where(channels[0] | mask, 0).relu()
    features = [feature]
    for i in range(1, len(weights)):
        before = channels[i - 1]
        from_dense = F.conv2d(feature.where(before, 0), weights[i], padding=1)
        from_sparse = F.conv2d(feature.where(~before, 0), weights[i], padding=1)
        feature = from_dense.where(channels[i] | mask, 0) + from_sparse.where(mask, 0)
        feature = feature.relu()
        features.append(feature)
    y = F.conv2d(torch.cat(features, dim=1), collect_weight, collect_bias)
    return y.contiguous(memory_format=memory_format_of(x))
