"""Where the pixels of an enlarged image lie between those of the small one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Axis(NamedTuple):
    """One side of the image.

    Attributes:
        source: LR coordinate of every HR pixel centre, [n] float32; LR centres lie at 0, 1, ...
        offset: twice the distance from the nearest LR centre, [T] float32; pixel i has entry
            ``i % T``. T is the scale where that is an integer, else n.
        cell: twice the size of an HR pixel in LR pixels.
    """

    source: Tensor
    offset: Tensor
    cell: float


class Places(NamedTuple):
    """Rows and columns of an HR image; everything about a place is separable in them."""

    rows: Axis
    cols: Axis


def pixel_places(
    lr_size: tuple[int, int], hr_size: tuple[int, int], device: torch.device
) -> Places:
    """The places of an HR image of ``hr_size`` over an LR map of ``lr_size``.

    At an integer scale they are exact. Elsewhere they come from LIIF's arithmetic in float32, bit
    by bit: there HR centres fall on the border between two LR pixels, and rounding decides whose
    they are.

    Source: LIIF (Chen et al., CVPR 2021), as PCSR (Jeong et al., ECCV 2024) uses it.

    Example:
        >>> pixel_places((2, 2), (4, 2), torch.device("cpu")).rows.source
        tensor([-0.2500,  0.2500,  0.7500,  1.2500])
    """
    (h, w), (height, width) = lr_size, hr_size
    return Places(_axis(h, height, device), _axis(w, width, device))


def _axis(length: int, out: int, device: torch.device) -> Axis:
    if out % length == 0:
        scale = out // length
        centre = torch.arange(out, device=device, dtype=torch.float32) * 2 + (1 - scale)
        return Axis(centre / (2 * scale), centre[:scale] / scale, 2 / scale)
    place = centres(out, device)
    source = ((place + 1) * length - 1) / 2
    nearest = source.round().clamp(0, length - 1).long()
    offset = (place - centres(length, device)[nearest]) * length
    return Axis(source, offset, 2 / out * length)


def centres(length: int, device: torch.device) -> Tensor:
    """Pixel centres of an image that spans [-1, 1], float32."""
    half = 1 / length
    return -1 + half + 2 * half * torch.arange(length, device=device, dtype=torch.float32)
