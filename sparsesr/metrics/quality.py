"""PSNR and SSIM on 8-bit images: luma of MATLAB's rgb2ycbcr or RGB, the border left out."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Convention = Literal["y", "rgb"]

# ITU-R BT.601 luma of red, green and blue: of [0, 1] to 16..235 as MATLAB's rgb2ycbcr writes it,
# and of any range to the same.
LUMA = (65.481, 128.553, 24.966)
FULL_RANGE_LUMA = (0.299, 0.587, 0.114)
_WINDOW = 11
_SIGMA = 1.5


def quantize(x: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to the 256 levels n/255, halves up as MATLAB's uint8() does.

    Args:
        x: floating Tensor of any shape, on the [0, 1] scale.

    Returns:
        The same shape and dtype.
    """
    return torch.floor(x.clamp(0, 1) * 255 + 0.5) / 255


def rgb_to_y(
    x: Tensor,  # [..., 3, H, W] in [0, 1]
) -> Tensor:  # [..., 1, H, W], 16..235
    """Luma Y = 16 + 65.481 R + 128.553 G + 24.966 B of MATLAB's rgb2ycbcr, not rounded.

    Args:
        x: floating Tensor [..., 3, H, W] in [0, 1].

    Returns:
        [..., 1, H, W] on the 0..255 scale (16..235 for x in [0, 1]), the dtype of x.

    Raises:
        ValueError: the third axis from the end is not three channels.
    """
    if x.dim() < 3 or x.shape[-3] != 3:
        raise ValueError(f"rgb_to_y: expected [..., 3, H, W], got {tuple(x.shape)}")
    red, green, blue = x.unbind(-3)
    return (16 + LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(-3)


def psnr(sr: Tensor, hr: Tensor, border: int, convention: Convention = "y") -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(255^2 / MSE), of 8-bit rounded images.

    Args:
        sr: [3, H, W] or [1, 3, H, W] in [0, 1]; clamped and rounded to 8 bit here.
        hr: the same shape; rounded as well.
        border: pixels left out on every side, usually the scale.
        convention: "y" (luma of MATLAB's rgb2ycbcr) or "rgb" (mean over three channels).

    Returns:
        dB; ``inf`` for equal images.

    Raises:
        ValueError: shapes differ, nothing is left inside the border, an unknown convention.
    """
    x, y = _prepare("psnr", sr, hr, border, convention)
    mse = float((x - y).square().mean())
    return math.inf if mse == 0 else 10 * math.log10(255.0**2 / mse)


def ssim(sr: Tensor, hr: Tensor, border: int, convention: Convention = "y") -> float:
    """Structural similarity of Wang et al. (2004): Gaussian 11x11 window, sigma 1.5, range 255.

    Only windows that lie inside the image count, as in the authors' MATLAB code.

    Args:
        sr: [3, H, W] or [1, 3, H, W] in [0, 1]; clamped and rounded to 8 bit here.
        hr: the same shape; rounded as well.
        border: pixels left out on every side before, usually the scale.
        convention: "y" or "rgb" (mean over three channels).

    Returns:
        The mean of the SSIM map, in [-1, 1].

    Raises:
        ValueError: shapes differ, less than 11 pixels are left on a side, an unknown convention.
    """
    x, y = _prepare("ssim", sr, hr, border, convention)
    if min(x.shape[-2:]) < _WINDOW:
        raise ValueError(
            f"ssim: expected at least {_WINDOW} pixels a side inside a border of {border}, "
            f"got {x.shape[-2]}x{x.shape[-1]}"
        )
    x, y = x.unsqueeze(1), y.unsqueeze(1)  # channels as a batch: [C, 1, H, W]
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x * mean_x
    var_y = _blur(y * y) - mean_y * mean_y
    cov = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    bottom = (mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2)
    return float((top / bottom).mean())


def _prepare(
    name: str, sr: Tensor, hr: Tensor, border: int, convention: str
) -> tuple[Tensor, Tensor]:
    """Both images as float64 [C, h, w] on the 0..255 scale, rounded, luma or RGB, cropped."""
    if convention not in ("y", "rgb"):
        raise ValueError(f"{name}: expected convention 'y' or 'rgb', got {convention!r}")
    if sr.shape != hr.shape:
        raise ValueError(
            f"{name}: expected images of one shape, got {tuple(sr.shape)} and {tuple(hr.shape)}; "
            "crop HR to scale * LR from the top left"
        )
    if sr.dim() == 4 and sr.shape[0] == 1:
        sr, hr = sr[0], hr[0]
    if sr.dim() != 3 or sr.shape[0] != 3:
        raise ValueError(f"{name}: expected [3, H, W] or [1, 3, H, W], got {tuple(sr.shape)}")
    if border < 0 or 2 * border >= min(sr.shape[-2:]):
        raise ValueError(
            f"{name}: expected a border that leaves pixels of {sr.shape[-2]}x{sr.shape[-1]}, "
            f"got {border}"
        )
    pair = []
    for image in (sr, hr):
        # Quantised in the image's own precision, so that n/255 in float32 stays level n.
        levels = quantize(image.detach()).to("cpu", torch.float64)
        levels = rgb_to_y(levels) if convention == "y" else levels * 255
        pair.append(levels[:, border : levels.shape[1] - border, border : levels.shape[2] - border])
    return pair[0], pair[1]


def _blur(
    x: Tensor,  # [N, 1, H, W]
) -> Tensor:  # [N, 1, H-10, W-10]
    """The Gaussian window, separable, valid positions only."""
    offset = torch.arange(_WINDOW, dtype=x.dtype) - _WINDOW // 2
    window = torch.exp(-offset.square() / (2 * _SIGMA**2))
    window = window / window.sum()
    x = F.conv2d(x, window.view(1, 1, -1, 1))
    return F.conv2d(x, window.view(1, 1, 1, -1))
