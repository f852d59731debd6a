"""IMDN: information multi-distillation (Hui et al., ACM Multimedia 2019).

A dense baseline of SMSR's supplement, Table II. At x4 it has 715,176 parameters. 64 channels; every
block sets 16 of them aside after each of three convolutions and goes on with the other 48.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..nn.sparse_refine import check_image
from .blocks import PixelShuffleUpsampler
from .registry import register

SCALES = (2, 3, 4)
CHANNELS = 64
DISTILLED = 16  # set aside after each convolution of a block
SLOPE = 0.05


class ContrastAttention(nn.Module):
    """``x * sigmoid(W2 relu(W1 (std(x) + mean(x))))``, one factor per channel (CCA).

    Standard deviation (of the population) and mean are taken over the whole map.

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
        variance, mean = torch.var_mean(x, (-2, -1), correction=0, keepdim=True)
        deviation = variance.clamp_min(1e-12).sqrt()  # the root has no gradient at zero
        return x * self.excite(self.act(self.squeeze(deviation + mean))).sigmoid()


class IMDB(nn.Module):
    """Distillation block: three 3x3 convolutions, a part set aside after each; a fourth; CCA; + x.

    Args:
        channels: C. distilled: channels set aside; the four parts make ``4 * distilled`` again.
    """

    def __init__(self, channels: int = CHANNELS, distilled: int = DISTILLED) -> None:
        super().__init__()
        self.parts = [distilled, channels - distilled]
        rest = channels - distilled
        self.convs = nn.ModuleList(self.conv(n, channels) for n in (channels, rest, rest))
        self.last = self.conv(rest, distilled)
        self.act = nn.LeakyReLU(SLOPE)
        self.attention = ContrastAttention(4 * distilled)
        self.fuse = nn.Conv2d(4 * distilled, channels, 1)

    def conv(self, inputs: int, outputs: int) -> nn.Conv2d:
        """A new 3x3 convolution of the block."""
        return nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> same
        """Apply the block."""
        rest, kept = x, []
        for conv in self.convs:
            part, rest = self.act(conv(rest)).split(self.parts, dim=1)
            kept.append(part)
        kept.append(self.last(rest))
        return x + self.fuse(self.attention(torch.cat(kept, 1)))


class IMDN(nn.Module):
    """IMDN: lr [B,3,H,W] in [0,1] -> [B,3,sH,sW], unclamped.

    Conv3x3; the blocks; Conv1x1 over all their outputs with LeakyReLU(0.05), Conv3x3 and the long
    skip; Conv3x3 and PixelShuffle.

    Args:
        scale: 2, 3 or 4. blocks: IMDBs, 6 as published.

    Example:
        >>> IMDN(scale=3, blocks=2)(torch.rand(2, 3, 5, 7)).shape
        torch.Size([2, 3, 15, 21])
    """

    # The global mean in every block: an output pixel depends on the whole image.
    receptive_field: int | None = None

    def __init__(self, scale: int, blocks: int = 6) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.body = nn.ModuleList(IMDB() for _ in range(blocks))
        self.collect = collecting(blocks)
        self.upsampler = PixelShuffleUpsampler(CHANNELS, scale)

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve ``lr``; any B, H and W."""
        check_image(lr)
        head = x = self.head(lr)
        outputs = []
        for block in self.body:
            x = block(x)
            outputs.append(x)
        return self.upsampler(head + self.collect(torch.cat(outputs, 1)))


def collecting(blocks: int) -> nn.Sequential:
    """The layers behind the body: 1x1 over the outputs of all blocks, LeakyReLU(0.05), 3x3."""
    return nn.Sequential(
        nn.Conv2d(blocks * CHANNELS, CHANNELS, 1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    )


def build_imdn(scale: int, blocks: int = 6) -> IMDN:
    """IMDN as published, or with another number of blocks."""
    return IMDN(scale, blocks)


register("imdn", SCALES, "IMDN, six information multi-distillation blocks", build_imdn)
