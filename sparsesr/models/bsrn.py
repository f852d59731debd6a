"""BSRN: blueprint separable residual network (Li et al., CVPR Workshops 2022).

At x4 it has 352,400 parameters. The names of its tensors are our own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.sparse_refine import check_image
from .blocks import PixelShuffleUpsampler, sizes
from .imdn import ContrastAttention
from .registry import register

SCALES = (2, 3, 4)
CHANNELS, BLOCKS = 64, 8
_COPIES = 4  # of the image, along its channels


class BlueprintConv(nn.Sequential):
    """Conv1x1 without bias, then a depthwise Conv3x3 (BSConvU).

    Args:
        inputs, outputs: channels. stride, padding: of the 3x3.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, padding: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.Conv2d(outputs, outputs, 3, stride, padding, groups=outputs),
        )


class BlueprintAttention(nn.Module):
    """Enhanced spatial attention on a strided, pooled map; a quarter of the channels inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        few = channels // 4
        self.reduce = nn.Conv2d(channels, few, 1)
        self.skip = nn.Conv2d(few, few, 1)
        self.stride = BlueprintConv(few, few, stride=2, padding=0)
        self.convs = nn.ModuleList(BlueprintConv(few, few) for _ in range(3))
        self.expand = nn.Conv2d(few, channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> same
        """Scale every value."""
        near = self.reduce(x)
        first, second, last = self.convs
        far = F.max_pool2d(sizes.at_least(self.stride(sizes.at_least(near, 3)), 7), 7, stride=3)
        far = last(F.gelu(second(F.gelu(first(far)))))
        far = F.interpolate(far, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return x * self.expand(far + self.skip(near)).sigmoid()


class DistillationBlock(nn.Module):
    """Three blueprint residual steps, a part set aside before each; attention twice; + x (ESDB)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.distil = nn.ModuleList(nn.Conv2d(channels, half, 1) for _ in range(3))
        self.steps = nn.ModuleList(BlueprintConv(channels, channels) for _ in range(3))
        self.last = BlueprintConv(channels, half)
        self.fuse = nn.Conv2d(2 * channels, channels, 1)
        self.spatial = BlueprintAttention(channels)
        self.channel = ContrastAttention(channels)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> same
        """Apply the block."""
        rest, kept = x, []
        for distil, step in zip(self.distil, self.steps, strict=True):
            kept.append(F.gelu(distil(rest)))
            rest = F.gelu(step(rest) + rest)
        kept.append(F.gelu(self.last(rest)))
        return x + self.channel(self.spatial(self.fuse(torch.cat(kept, 1))))


class BSRNEncoder(nn.Module):
    """All of BSRN but its upsampler: [B,3,h,w] -> [B,C,h,w].

    Args:
        channels: C. blocks: how many.
    """

    def __init__(self, channels: int, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.head = BlueprintConv(3 * _COPIES, channels)
        self.body = nn.ModuleList(DistillationBlock(channels) for _ in range(blocks))
        self.collect = nn.Sequential(
            nn.Conv2d(blocks * channels, channels, 1), nn.GELU(), BlueprintConv(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The feature map."""
        head = y = self.head(x.repeat(1, _COPIES, 1, 1))
        outputs = []
        for block in self.body:
            y = block(y)
            outputs.append(y)
        return head + self.collect(torch.cat(outputs, 1))


class BSRN(BSRNEncoder):
    """BSRN: lr [B,3,H,W] in [0,1] -> [B,3,sH,sW], unclamped. No image skip.

    Args:
        scale: 2, 3 or 4. blocks: 8 as published.

    Example:
        >>> BSRN(scale=2, blocks=1)(torch.rand(2, 3, 5, 7)).shape
        torch.Size([2, 3, 10, 14])
    """

    # The global mean in every block: an output pixel depends on the whole image.
    receptive_field: int | None = None

    def __init__(self, scale: int, blocks: int = BLOCKS) -> None:
        super().__init__(CHANNELS, blocks)
        self.scale = scale
        self.upsampler = PixelShuffleUpsampler(CHANNELS, scale)

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve ``lr``; any B, H and W."""
        check_image(lr)
        return self.upsampler(super().forward(lr))


def build_bsrn(scale: int, blocks: int = BLOCKS) -> BSRN:
    """BSRN as published, or with another number of blocks."""
    return BSRN(scale, blocks)


register("bsrn", SCALES, "BSRN, eight blueprint distillation blocks", build_bsrn)
