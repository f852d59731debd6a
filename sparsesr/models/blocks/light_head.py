"""The light coarse head in one step: its convolution and the bilinear image beside it.

Enlarging an image bilinearly by a whole s is a 3x3 convolution with fixed weights and a pixel
shuffle, which is what the light head is. Put together, the image never exists by itself: on a CPU
making it and adding it take longer than the head. It is one convolution, as a program skips what is
covered in its last convolution alone.
"""

from __future__ import annotations

from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import engine, ops
from ...ops._packing import Cache
from .upsamplers import PixelShuffleUpsampler

_COLOURS = 3
_PROGRAM = "v1 = conv v0 weight=0 bias=1 pad=1\nv2 = shuffle v1 factor={scale}\nreturn v2"

_weights = Cache()


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
    if type(conv) is not nn.Conv2d or type(shuffle) is not nn.PixelShuffle or conv.bias is None:
        return None
    scale = shuffle.upscale_factor
    if conv.weight.shape != (_COLOURS * scale**2, feature.shape[1], 3, 3) or conv.padding != (1, 1):
        return None
    if type(lr) is not Tensor or lr.device.type != "cpu" or lr.dtype != feature.dtype:
        return None
    if lr.requires_grad and torch.is_grad_enabled():
        return None
    if engine.why_not_run(upsampler, feature) is not None:
        return None
    both = _weights.get((scale,), [conv.weight], partial(_with_taps, conv.weight, scale))
    index, side = (None, 1) if covered is None else (covered.index, covered.patch_size)
    x = torch.cat((feature, lr), 1)
    coarse = ops.run_program(x, [both, conv.bias], _PROGRAM.format(scale=scale), index, side)
    _frame_(coarse, lr, scale)
    return coarse


@torch.no_grad()
def _with_taps(weight: Tensor, scale: int) -> Tensor:
    """Weights [3 s^2, C+3, 3, 3] for the feature and, behind it, the image."""
    taps = bilinear_taps(scale).to(weight)  # [3 s^2, 1, 3, 3]
    own = torch.eye(_COLOURS).to(weight).repeat_interleave(scale**2, 0)  # [3 s^2, 3]
    return torch.cat((weight.detach(), taps * own[:, :, None, None]), 1).contiguous()


@lru_cache(maxsize=32)
def _beyond(scale: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What the pixel beyond an edge weighs in the rows next to it, [s/2] each: first and last."""
    first = (0.5 - (torch.arange(scale // 2) + 0.5) / scale).to(dtype)
    return first, first.flip(0)


def _frame_(coarse: Tensor, lr: Tensor, scale: int) -> None:
    """Add what the repeated edge of ``lr`` gives the outermost pixels, in place.

    The convolution took zeros around the image. First what rows above and below weigh, then what
    columns left and right do; where both lie outside, the rows have given it all.
    """
    height, width = lr.shape[-2:]
    edge, (first, last) = scale // 2, _beyond(scale, lr.dtype)
    rows = F.interpolate(lr[..., [0, -1], :], size=(2, scale * width), mode="bilinear")
    columns = F.interpolate(lr[..., [0, -1]], size=(scale * height, 2), mode="bilinear")
    columns[..., :edge, :] *= 1 - first[:, None]
    columns[..., -edge:, :] *= 1 - last[:, None]
    coarse[..., :edge, :] += rows[..., :1, :] * first[:, None]
    coarse[..., -edge:, :] += rows[..., 1:, :] * last[:, None]
    coarse[..., :edge] += columns[..., :1] * first
    coarse[..., -edge:] += columns[..., 1:] * last
