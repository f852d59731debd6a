"""MSRResNet: SRResNet without batch norm (Wang et al., 2018), as PCSR accelerates it.

At x4 it has 1,517,571 parameters.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.sparse_refine import check_image
from .registry import register

SCALES = (2, 3, 4)
CHANNELS, BLOCKS, SLOPE = 64, 16, 0.1
CONTEXT = 1 + 2 * BLOCKS


class PlainBlock(nn.Module):
    """Conv3x3, ReLU, Conv3x3, + x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> same
        """Apply the block."""
        return x + self.conv2(F.relu(self.conv1(x)))


class MSRResNetEncoder(nn.Module):
    """Conv3x3, LeakyReLU(0.1) and the residual blocks: [B,3,h,w] -> [B,C,h,w]. No long skip.

    Args:
        channels: C. blocks: how many.
    """

    def __init__(self, channels: int, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, channels, 3, padding=1)
        self.recon_trunk = nn.Sequential(*(PlainBlock(channels) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """The feature map."""
        return self.recon_trunk(F.leaky_relu(self.conv_first(x), SLOPE))


class MSRResNet(MSRResNetEncoder):
    """MSRResNet: lr [B,3,H,W] in [0,1] -> [B,3,sH,sW], unclamped, over the bilinear image.

    Args:
        scale: 2, 3 or 4. blocks: residual blocks, 16 as published.

    Example:
        >>> import torch
        >>> MSRResNet(scale=3, blocks=2)(torch.rand(2, 3, 5, 7)).shape
        torch.Size([2, 3, 15, 21])
    """

    def __init__(self, scale: int, blocks: int = BLOCKS) -> None:
        super().__init__(CHANNELS, blocks)
        self.scale = scale
        self.receptive_field = 2 * (1 + 2 * blocks + 3) + 1
        self.shuffles = (2, 2) if scale == 4 else (scale,)
        for i, factor in enumerate(self.shuffles, start=1):
            wide = nn.Conv2d(CHANNELS, CHANNELS * factor**2, 3, padding=1)
            setattr(self, f"upconv{i}", wide)
        self.HRconv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.conv_last = nn.Conv2d(CHANNELS, 3, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve ``lr``; any B, H and W."""
        check_image(lr)
        x = super().forward(lr)
        for i, factor in enumerate(self.shuffles, start=1):
            x = F.leaky_relu(F.pixel_shuffle(getattr(self, f"upconv{i}")(x), factor), SLOPE)
        x = self.conv_last(F.leaky_relu(self.HRconv(x), SLOPE))
        size = (lr.shape[-2] * self.scale, lr.shape[-1] * self.scale)
        return x + F.interpolate(lr, size=size, mode="bilinear", align_corners=False)


def build_msrresnet(scale: int, blocks: int = BLOCKS) -> MSRResNet:
    """MSRResNet as published, or with another number of blocks."""
    return MSRResNet(scale, blocks)


register("msrresnet", SCALES, "SRResNet without batch norm, PCSR's original", build_msrresnet)
