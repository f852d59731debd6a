"""A spatial mask without a network: the pixels where the image changes most."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import ops
from ..metrics import LUMA
from .sparse_refine import effective_k

_ACROSS = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


@torch.no_grad()
def gradient_mask(lr: Tensor, active: float) -> Tensor:
    """The share ``active`` of an image's pixels with the largest Sobel magnitude of the luma.

    The border repeats the outermost pixels. ``ceil(active * H * W)`` pixels of each image are
    True; of equal ones the first in reading order.

    Args:
        lr: [B, 3, H, W] on any scale of values.
        active: in [0, 1].

    Returns:
        [B, 1, H, W] bool.

    Raises:
        TypeError: ``active`` is no number.
        ValueError: ``active`` outside [0, 1].

    Source: SMSR, supplement, figure VII, which leaves the details open.

    Example:
        >>> lr = torch.zeros(1, 3, 3, 6)
        >>> lr[..., 3:] = 1
        >>> gradient_mask(lr, 1 / 3)[0, 0].int()
        tensor([[0, 0, 1, 1, 0, 0],
                [0, 0, 1, 1, 0, 0],
                [0, 0, 1, 1, 0, 0]], dtype=torch.int32)
    """
    if isinstance(active, bool) or not isinstance(active, (int, float)):
        raise TypeError(f"gradient_mask: expected active as a number, got {type(active).__name__}")
    if not 0 <= active <= 1:
        raise ValueError(f"gradient_mask: expected active in [0, 1], got {active}")
    batch, _, height, width = lr.shape
    colours = lr.new_tensor(LUMA, dtype=torch.float32).view(1, 3, 1, 1)
    luma = (lr.float() * colours).sum(1, keepdim=True)
    across = lr.new_tensor(_ACROSS, dtype=torch.float32)
    kernels = torch.stack([across, across.T])[:, None]
    change = F.conv2d(F.pad(luma, (1, 1, 1, 1), mode="replicate"), kernels)
    score = change.square().sum(1)  # orders pixels as its root does
    index = ops.select_patches(score, effective_k(None, active, height, width, 0))
    mask = torch.zeros(batch, height * width, dtype=torch.bool, device=lr.device)
    return mask.scatter_(1, index.long(), True).view(batch, 1, height, width)
