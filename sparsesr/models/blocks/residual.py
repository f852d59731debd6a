"""Residual blocks of the families."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .attention import ESA, ChannelAttention, PixelAttention


class Residual(nn.Sequential):
    """``x + layers(x)``.

    Example:
        >>> Residual(nn.Identity())(torch.ones(1))
        tensor([2.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """The layers, and their input on top."""
        return x + super().forward(x)


class ResidualBlock(Residual):
    """``x + conv(act(conv(x)))``, 3x3, without normalisation.

    Args:
        channels: C. act: the activation between; a single-parameter PReLU by default.
    """

    def __init__(self, channels: int, act: nn.Module | None = None) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.PReLU() if act is None else act,
            nn.Conv2d(channels, channels, 3, padding=1),
        )


class RCAB(Residual):
    """Residual channel attention block: conv, ReLU, conv, channel attention, + x (RCAN, fig. 4)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            ChannelAttention(channels, reduction),
        )


class ResidualGroup(Residual):
    """RCABs, a 3x3 convolution, + x (RCAN, section 3.2).

    Args:
        channels: C. blocks: number of RCABs.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__(
            *(RCAB(channels) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1),
        )


class SCPA(nn.Module):
    """Self-calibrated block with pixel attention (PAN, fig. 2).

    Two branches of half the channels, each a 1x1 and LeakyReLU(0.2): one a 3x3; one a 3x3 gated by
    pixel attention, then a 3x3. LeakyReLU(0.2) on both, concatenation, 1x1, + x. No biases but
    the attention's.

    Args:
        channels: C, even.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.enter_plain = nn.Conv2d(channels, half, 1, bias=False)
        self.enter_gated = nn.Conv2d(channels, half, 1, bias=False)
        self.plain = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.attention = PixelAttention(half)
        self.gated = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.mix = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.merge = nn.Conv2d(channels, channels, 1, bias=False)
        self.act = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> same
        """Apply the block."""
        plain = self.act(self.plain(self.act(self.enter_plain(x))))
        y = self.act(self.enter_gated(x))
        gated = self.act(self.mix(self.gated(y) * self.attention.gate(y)))
        return x + self.merge(torch.cat((plain, gated), 1))


class RFDB(nn.Module):
    """Residual feature distillation block (RFDN, fig. 2), without a skip around it.

    Three times: a 1x1 distils half the channels, ``act(conv3x3(x) + x)`` passes on. A 3x3 distils
    the rest; concatenation, 1x1, ESA. LeakyReLU(0.05) throughout.

    Args:
        channels: C, even. attention: channels inside ESA. pool: ESA's pooling.
    """

    def __init__(self, channels: int, attention: int, pool: bool) -> None:
        super().__init__()
        half = channels // 2
        self.distil = nn.ModuleList(nn.Conv2d(channels, half, 1) for _ in range(3))
        self.pass_on = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3))
        self.last = nn.Conv2d(channels, half, 3, padding=1)
        self.act = nn.LeakyReLU(0.05)
        self.fuse = nn.Conv2d(4 * half, channels, 1)
        self.esa = ESA(channels, attention, pool)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> same
        """Apply the block."""
        distilled = []
        for distil, pass_on in zip(self.distil, self.pass_on, strict=True):
            distilled.append(self.act(distil(x)))
            x = self.act(pass_on(x) + x)
        distilled.append(self.act(self.last(x)))
        return self.esa(self.fuse(torch.cat(distilled, 1)))
