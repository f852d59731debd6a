"""Attention: which channels, pixels or regions of a map count."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from . import sizes


class ChannelAttention(nn.Module):
    """``x * sigmoid(W2 relu(W1 mean(x)))``, one factor per channel (RCAN, ECCV 2018, section 3.3).

    The mean is taken over the map it is given: the whole image, or one patch with its halo.

    Args:
        channels: C. reduction: C / reduction channels between the two 1x1 convolutions.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.act = nn.ReLU()
        self.excite = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> same
        """Scale the channels."""
        mean = x.mean((-2, -1), keepdim=True)
        return x * self.excite(self.act(self.squeeze(mean))).sigmoid()


class PixelAttention(nn.Module):
    """``x * sigmoid(W x)``, one factor per pixel and channel (PAN, ECCV 2020 workshops, section 3).

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def gate(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> same, in (0, 1)
        """The factors alone."""
        return self.conv(x).sigmoid()

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> same
        """Scale the pixels."""
        return x * self.gate(x)


class ESA(nn.Module):
    """Enhanced spatial attention: a gate computed on a small copy of the map (RFDN, ECCV 2020).

    1x1 to f channels = a; 3x3 of stride 2, no padding; max-pool 7x7 of stride 3 where ``pool``;
    three 3x3 with two ReLUs; bilinear back to the size of a; plus a 1x1 of a; 1x1 to C; sigmoid.
    Refine-Nets go without the pooling, for which their patches are too small. Maps below 3 px, and
    below 15 px with pooling, are continued by their last row and column.

    Args:
        channels: C. reduced: f. pool: whether to max-pool.
    """

    def __init__(self, channels: int, reduced: int, pool: bool) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, reduced, 1)
        self.shrink = nn.Conv2d(reduced, reduced, 3, stride=2)
        self.pool = nn.MaxPool2d(7, stride=3) if pool else None
        self.conv_max = nn.Conv2d(reduced, reduced, 3, padding=1)
        self.conv3 = nn.Conv2d(reduced, reduced, 3, padding=1)
        self.conv4 = nn.Conv2d(reduced, reduced, 3, padding=1)
        self.act = nn.ReLU()
        self.shortcut = nn.Conv2d(reduced, reduced, 1)
        self.expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> same
        """Scale the pixels."""
        a = self.reduce(x)
        y = self.shrink(sizes.at_least(a, 3))
        if self.pool is not None:
            y = self.pool(sizes.at_least(y, 7))
        y = self.conv4(self.act(self.conv3(self.act(self.conv_max(y)))))
        y = F.interpolate(y, size=a.shape[-2:], mode="bilinear", align_corners=False)
        return x * self.expand(y + self.shortcut(a)).sigmoid()
