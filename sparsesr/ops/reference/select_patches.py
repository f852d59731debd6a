"""Reference of ``select_patches``."""

from __future__ import annotations

import torch
from torch import Tensor


def select_patches(
    mask: Tensor,  # [B, Gh, Gw]
    k: int,
    largest: bool = True,
) -> Tensor:
    """Indices [B, k] int32, ascending, of the k best scores; ties to the lower index, NaN last."""
    score = mask.flatten(1).to(torch.float32)  # [B, Gh*Gw]
    score = score if largest else -score
    nan = score.isnan()
    score = score.masked_fill(nan, -torch.inf) + 0.0  # + 0.0 turns -0 into +0
    order = score.argsort(dim=1, descending=True, stable=True)
    # A second stable sort moves NaN behind even -inf and keeps everything else in place.
    nan_last = nan.gather(1, order).to(torch.uint8).argsort(dim=1, stable=True)
    best = order.gather(1, nan_last)[:, :k]
    return best.sort(dim=1).values.to(torch.int32)
