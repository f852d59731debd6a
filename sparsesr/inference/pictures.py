"""Upscaling pictures of every kind: transparency apart, 16 bits never through 8."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparsesr.io import Picture
from sparsesr.io.modes import to_image
from sparsesr.io.picture import split_image
from sparsesr.metrics import FULL_RANGE_LUMA, imresize

if TYPE_CHECKING:
    from sparsesr.inference.upscaler import Upscaler

# Bicubic values this near to 0 or 1 come from a neighbourhood that is transparent or opaque.
_FLAT = 1e-6
_ROWS = 64  # that are rounded at a time


def upscale_picture(upscaler: Upscaler, picture: Picture) -> Picture:
    """Upscale a picture; kind, depth and metadata stay.

    Colours under transparent pixels are first replaced by those of the nearest visible ones, so
    that no fringe of a hidden colour shows. Grey is the luma of the network's three channels.

    Alpha goes apart. With soft edges the network upscales it as a grey image, and what bicubic
    finds wholly transparent or opaque stays exactly so: 6 to 9 dB above bicubic at antialiased
    edges with fsrcnn-mga-x2. Alpha of 0 and 1 alone goes by bicubic, 1 dB above the network there.

    Args:
        upscaler: runs the network, at any device and dtype.
        picture: as ``read_picture`` gives it.

    Returns:
        The picture, scale times as high and wide.

    Raises:
        ValueError: the network gave NaN or infinite values.
    """
    return with_result(upscaler, picture, upscaler.run(lr_tensor(picture)))


def lr_tensor(picture: Picture) -> Tensor:
    """The colours as a network takes them, bled under transparent pixels; [1, 3, H, W] float32."""
    colour = _planes(picture.colour) / picture.top
    if picture.alpha is not None:
        colour = bleed(colour, _planes(picture.alpha) / picture.top)
    return colour.expand(1, 3, -1, -1).contiguous()


def with_result(
    upscaler: Upscaler,
    picture: Picture,
    sr: Tensor,  # [1, 3, sH, sW] floating
) -> Picture:
    """The picture with the network's result for ``lr_tensor(picture)``, and its alpha upscaled.

    Raises:
        ValueError: ``sr`` has NaN or infinite values.
    """
    if not bool(torch.isfinite(sr).all()):
        raise ValueError("upscale_picture: the result has NaN or infinite values; try float32")
    alpha = None
    if picture.alpha is not None:
        levels = _planes(picture.alpha) / picture.top
        soft = _upscaled_alpha(upscaler, levels, (sr.shape[-2], sr.shape[-1]))
        alpha = _levels(soft, picture)[..., 0]
    colour = _levels(sr, picture)
    return dataclasses.replace(
        picture, colour=colour[..., 0] if picture.grey else colour, alpha=alpha
    )


def upscale_pil(upscaler: Upscaler, image: Any) -> Any:
    """Upscale a PIL image of mode 1, L, LA, P, PA, RGB, RGBA, CMYK or I;16; ``info`` is kept.

    A camera's orientation is neither applied nor removed. PA comes back as P with transparency.

    Raises:
        ValueError: another mode.
    """
    from PIL import Image as PilImage

    info = dict(image.info)
    icc = info.get("icc_profile")
    colour, alpha, kind = split_image(image, "Upscaler", icc)
    result = upscale_picture(upscaler, Picture(colour, alpha, kind))
    if result.depth == 16:
        larger = PilImage.fromarray(result.colour)
    else:
        larger = to_image(result.colour, result.alpha, result.kind, icc)[0]
    info.pop("transparency", None)
    larger.info = {**info, **larger.info}
    return larger


def bleed(
    colour: Tensor,  # [1, C, H, W] floating
    alpha: Tensor,  # [1, 1, H, W] floating in [0, 1]
) -> Tensor:
    """Fill the colours of wholly transparent pixels from the visible ones around them.

    Means weighted by alpha over 2x2, 4x4, ... pixels; a transparent pixel takes the smallest of
    these squares that has anything visible. Visible pixels keep their colours.

    Args:
        colour: not multiplied by alpha.
        alpha: 0 is transparent.

    Returns:
        A new [1, C, H, W]; ``colour`` itself if nothing or everything is transparent.
    """
    hidden = alpha == 0
    if not bool(hidden.any()) or bool(hidden.all()):
        return colour
    height, width = alpha.shape[-2:]
    # Double: products and quotients of the weights must give a plain colour back unchanged.
    wide = F.pad(colour.double() * alpha, (0, width % 2, 0, height % 2))
    weights = F.pad(alpha.double(), (0, width % 2, 0, height % 2))
    weight = F.avg_pool2d(weights, 2)
    mean = F.avg_pool2d(wide, 2) / weight.clamp(min=1e-300)
    coarse = bleed(mean, weight)
    filled = coarse.repeat_interleave(2, -2).repeat_interleave(2, -1)[..., :height, :width]
    return torch.where(hidden, filled.to(colour.dtype), colour)


def _upscaled_alpha(upscaler: Upscaler, alpha: Tensor, size: tuple[int, int]) -> Tensor:
    bicubic = imresize(alpha, size=size).clamp(0, 1)
    if bool(((alpha == 0) | (alpha == 1)).all()) or bool((alpha == alpha.max()).all()):
        return bicubic
    sr = upscaler.run(alpha.expand(1, 3, -1, -1).contiguous()).float().cpu()
    flat = (bicubic < _FLAT) | (bicubic > 1 - _FLAT)
    soft = torch.where(flat, bicubic.round(), _luma(sr).clamp(0, 1))
    return torch.where(torch.isfinite(soft), soft, bicubic)


def _planes(array: np.ndarray) -> Tensor:
    """[H, W] or [H, W, C] of integers as [1, C, H, W] float32."""
    planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return torch.from_numpy(np.array(planes, np.float32, order="C"))[None]


def _levels(
    values: Tensor,  # [1, 3 or 1, H, W] floating; 3 become 1 for a grey picture
    picture: Picture,
) -> np.ndarray:  # [H, W, C]
    """Clamped to [0, 1] and rounded to the picture's depth, a few rows at a time."""
    height, width = values.shape[-2:]
    channels = 1 if picture.grey else values.shape[1]
    levels = np.empty((height, width, channels), picture.colour.dtype)
    for top in range(0, height, _ROWS):
        rows = values[..., top : top + _ROWS, :].float().clamp(0, 1)
        rows = _luma(rows) if rows.shape[1] > channels else rows
        # Half a level of 16 bits is at the end of float32's mantissa.
        rows = rows.double() if picture.depth == 16 else rows
        whole = rows.mul(picture.top).add(0.5).floor()[0].permute(1, 2, 0)
        levels[top : top + _ROWS] = whole.cpu().numpy().astype(levels.dtype)
    return levels


def _luma(sr: Tensor) -> Tensor:
    """[1, 1, H, W]: three channels that went in equal need not come out equal."""
    weights = torch.tensor(FULL_RANGE_LUMA, dtype=sr.dtype, device=sr.device).view(1, 3, 1, 1)
    return (sr * weights).sum(dim=1, keepdim=True)
