"""CARN-M (Ahn et al., ECCV 2018) as PCSR accelerates it, with the keys of its released weights.

Grouped 3x3 layers, one residual block shared within a cascade, batch norm after the 1x1 layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine import Steps, Value, lowers
from ..nn.sparse_refine import check_image
from .registry import register

SCALES = (2, 3, 4)
CHANNELS, GROUPS, STEPS = 64, 4, 3
MEAN = (0.4488, 0.4371, 0.4040)
# Entry; in each of three cascades three blocks of two 3x3 layers.
CONTEXT = 1 + 2 * STEPS * STEPS


class EfficientResidualBlock(nn.Module):
    """Grouped Conv3x3, ReLU, grouped Conv3x3, ReLU, Conv1x1; + x; ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=GROUPS),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=GROUPS),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> same
        """Apply the block."""
        return F.relu(self.body(x) + x)


class FusingConv1x1(nn.Conv2d):
    """A 1x1 convolution, without bias, over the channels of several maps: a sum of one over each.

    The maps are never joined, which would take as long as the convolution.
    """

    def __init__(self, maps: int, channels: int) -> None:
        super().__init__(maps * channels, channels, 1, bias=False)

    def forward(  # type: ignore[override]
        self,
        maps: list[Tensor],  # of [N, C, H, W]
    ) -> Tensor:  # [N, C, H, W]
        """Convolve the maps as if they were one."""
        weights = self.weight.split(self.out_channels, dim=1)
        total = F.conv2d(maps[0], weights[0])
        for x, weight in zip(maps[1:], weights[1:], strict=True):
            total += F.conv2d(x, weight)
        return total


@lowers(FusingConv1x1)
def _fused(steps: Steps, module: FusingConv1x1, maps: list[Value]) -> Value:
    return steps.conv(steps.concat(maps), module.weight)


def _fusion(count: int, channels: int) -> nn.Sequential:
    """1x1 over ``count`` maps, batch norm, ReLU."""
    return nn.Sequential(FusingConv1x1(count, channels), nn.BatchNorm2d(channels), nn.ReLU())


class Cascade(nn.Module):
    """Three steps, after each a 1x1 over what came in and all that the steps gave.

    Args:
        channels: C. steps: the modules b1, b2, b3, or b1 alone for one that all steps share.
    """

    def __init__(self, channels: int, steps: list[nn.Module]) -> None:
        super().__init__()
        for i, step in enumerate(steps, start=1):
            setattr(self, f"b{i}", step)
        for i in range(1, STEPS + 1):
            setattr(self, f"c{i}", _fusion(i + 1, channels))

    def cascade(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> same
        """Apply the steps."""
        kept, out = [x], x
        for i in range(1, STEPS + 1):
            step = getattr(self, f"b{i}", None) or self.get_submodule("b1")
            kept.append(step(out))
            out = getattr(self, f"c{i}")(kept)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Apply the steps."""
        return self.cascade(x)


class CARNEncoder(Cascade):
    """All of CARN but its upsampler: [B,3,h,w] -> [B,C,h,w].

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        blocks: list[nn.Module] = [
            Cascade(channels, [EfficientResidualBlock(channels)]) for _ in range(STEPS)
        ]
        super().__init__(channels, blocks)
        self.entry = nn.Conv2d(3, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The feature map."""
        return self.cascade(self.entry(x))


class CARNUpsampler(nn.Module):
    """Grouped Conv3x3, ReLU, PixelShuffle; twice by 2 at x4."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for factor in (2, 2) if scale == 4 else (scale,):
            wide = channels * factor**2
            conv = nn.Conv2d(channels, wide, 3, padding=1, groups=GROUPS)
            layers += [conv, nn.ReLU(), nn.PixelShuffle(factor)]
        self.up = nn.Module()  # the name in released checkpoints
        self.up.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C, sH, sW]
        """Upsample."""
        return self.up.body(x)  # type: ignore[operator]


class CARN(CARNEncoder):
    """CARN-M: lr [B,3,H,W] in [0,1] -> [B,3,sH,sW], unclamped. No image skip.

    Args:
        scale: 2, 3 or 4.

    Example:
        >>> CARN(scale=4)(torch.rand(2, 3, 5, 7)).shape
        torch.Size([2, 3, 20, 28])
    """

    receptive_field = 2 * (CONTEXT + 3) + 1

    def __init__(self, scale: int) -> None:
        super().__init__(CHANNELS)
        self.scale = scale
        self.upsample = CARNUpsampler(CHANNELS, scale)
        self.exit = nn.Conv2d(CHANNELS, 3, 3, padding=1)
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve ``lr``; any B, H and W."""
        check_image(lr)
        mean = self.mean.to(lr.dtype)
        return self.exit(self.upsample(super().forward(lr - mean))) + mean


def build_carn(scale: int) -> CARN:
    """CARN-M."""
    return CARN(scale)


register("carn", SCALES, "CARN-M as released with PCSR", build_carn)
