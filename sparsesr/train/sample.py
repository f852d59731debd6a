"""A picture of every validation: what the network makes of a part of the first test image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from sparsesr.io import to_array
from sparsesr.metrics import imresize
from sparsesr.ops import patch_grid
from sparsesr.train.recipe import ROUTED, WHOLE
from sparsesr.train.validation import ValidationSet, choice_of
from sparsesr.viz import comparison_strip

_SIDE = 64  # LR pixels
_BUDGET = 0.25  # of the patches, once there is a mask


@torch.no_grad()
def sample_image(net: Any, images: ValidationSet, step: str) -> np.ndarray:
    """Bicubic, coarse (where there is one), SR and HR side by side: [h,w,3] uint8.

    The middle of the first image, at most 64 x 64 LR pixels. Values that are not finite are black.
    """
    scale = images.scale
    lr, hr = images.pairs[0]
    top, left = (max(0, (side - _SIDE) // 2) for side in lr.shape[-2:])
    lr = lr[..., top : top + _SIDE, left : left + _SIDE]
    height, width = lr.shape[-2] * scale, lr.shape[-1] * scale
    hr = hr[..., top * scale : top * scale + height, left * scale : left * scale + width]
    panels = {"bicubic": imresize(lr, scale)}
    x = lr.to(next(net.parameters()).device)
    if step in ROUTED:
        panels["SR"] = net(x, scale=scale)
    elif step == WHOLE:
        panels["SR"] = net(x)
    else:
        cells = math.prod(patch_grid(x.shape[-2], x.shape[-1], getattr(net, "patch_size", 1)))
        choice = choice_of(net, step, math.ceil(_BUDGET * cells))
        out = net(x, return_details=True, **choice)
        panels["coarse"] = out.coarse
        panels[f"SR, {_BUDGET:.0%} refined" if "k" in choice else "SR"] = out.sr
    panels["HR"] = hr
    shown = {label: to_array(p.float().nan_to_num(0, 0, 0)) for label, p in panels.items()}
    return comparison_strip(list(shown.items()))
