"""The light coarse head in one step: its convolution and the bilinear image beside it.

Enlarging an image bilinearly by a whole s is a 3x3 convolution with fixed weights and a pixel
shuffle, which is what the light head is. Put together, the image never exists by itself: on a CPU
making it and adding it take longer than the head.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import engine
from .upsamplers import PixelShuffleUpsampler

_COLOURS = 3


def bilinear_taps(scale: int) -> Tensor:
    """Weights [3 s^2, 1, 3, 3] float32 with which a pixel shuffle enlarges bilinearly.

    ``pixel_shuffle(conv2d(pad(x, 1, "replicate"), taps, groups=3), s)`` is ``interpolate(x, s)``,
    corners not aligned: row r of a pixel lies at (r + 1/2)/s - 1/2 pixels from its centre.

    Example:
        >>> bilinear_taps(2)[0, 0, :, 1].tolist()
        [0.1875, 0.5625, 0.0]
    """
    at = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5  # [s]
    line = (1 - (at[:, None] - torch.tensor([-1.0, 0.0, 1.0])).abs()).clamp(min=0)  # [s, 3]
    taps = torch.einsum("ai,bj->abij", line, line).reshape(1, scale**2, 1, 3, 3)
    return taps.repeat(_COLOURS, 1, 1, 1, 1).flatten(0, 1).float()


class _Head(nn.Module):
    """[N, C+3, H, W], the feature and the image -> [N, 3, sH, sW]; the image is zero-padded."""

    taps: Tensor

    def __init__(self, conv: nn.Conv2d, shuffle: nn.PixelShuffle, dtype: torch.dtype) -> None:
        super().__init__()
        self.conv, self.shuffle = conv, shuffle
        self.channels = conv.in_channels
        self.register_buffer("taps", bilinear_taps(shuffle.upscale_factor).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        skip = F.conv2d(x[:, self.channels :], self.taps, padding=1, groups=_COLOURS)
        return self.shuffle(self.conv(x[:, : self.channels]) + skip)


# Beside the upsamplers, which own the convolution: not in their state dict, nor in copies.
_heads: WeakKeyDictionary[nn.Module, _Head] = WeakKeyDictionary()


def over_bilinear(
    upsampler: nn.Module,
    lr: Tensor,  # [B, 3, H, W]
    feature: Tensor,  # [B, C, H, W]
    covered: engine.Covered | None = None,
) -> Tensor | None:
    """``upsampler(feature)`` plus the bilinearly enlarged ``lr``, or None where it is not for this.

    It is for light heads on the CPU, where their program may run (see ``engine.run``).

    Args:
        covered: patches of the result, [B, 3, sH, sW], that may be left undefined.
    """
    if torch.compiler.is_compiling() or type(upsampler) is not PixelShuffleUpsampler:
        return None
    conv, shuffle = upsampler
    if type(conv) is not nn.Conv2d or type(shuffle) is not nn.PixelShuffle:
        return None
    if type(lr) is not Tensor or lr.device.type != "cpu" or lr.dtype != feature.dtype:
        return None
    if lr.requires_grad and torch.is_grad_enabled():
        return None
    if engine.why_not_run(upsampler, feature) is not None:
        return None
    head = _heads.get(upsampler)
    if head is None or head.conv is not conv or head.taps.dtype != lr.dtype:
        head = _heads[upsampler] = _Head(conv, shuffle, lr.dtype)
    coarse: Tensor = engine.run(head, torch.cat((feature, lr), 1), covered=covered)
    _frame_(coarse, lr, head.taps)
    return coarse


def _frame_(coarse: Tensor, lr: Tensor, taps: Tensor) -> None:
    """Add what the pixels around ``lr``, its edge repeated, give the outermost pixels, in place."""
    height, width = lr.shape[-2:]
    scale = coarse.shape[-1] // width
    around = F.pad(lr, (1, 1, 1, 1), mode="replicate")
    around[..., 1:-1, 1:-1] = 0
    for y in {0, height - 1}:
        row = F.conv2d(around[..., y : y + 3, :], taps, groups=_COLOURS)
        coarse[..., scale * y : scale * (y + 1), :] += F.pixel_shuffle(row, scale)
    if height > 2:
        for x in {0, width - 1}:
            column = F.conv2d(around[..., 1:-1, x : x + 3], taps, groups=_COLOURS)
            side = slice(scale * x, scale * (x + 1))
            coarse[..., scale:-scale, side] += F.pixel_shuffle(column, scale)
