"""SRResNet under mask-guided refinement (MGA, ECCV 2022; SRResNet: Ledig et al., CVPR 2017).

12 residual blocks without normalisation in the Base-Net, 4 in the Refine-Net, 64 channels, 9x9
convolutions at both ends. Parameters (base / dnet, allnet / mga): x2 1,102,097 / 1,671,577 /
1,709,709; x3 the same; x4 1,249,810 / 1,967,003 / 2,005,135.

Parameters and FLOPs leave open, and chosen is: PReLUs of one parameter; at x3 a bilinear x1.5
before the one x2 stage; a skip around the Refine-Net's trunk; no image skip.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import (
    BaseNet,
    PixelShuffleUpsampler,
    RefineNet,
    Residual,
    ResidualBlock,
    Tail,
    shuffle_stages,
    sizes,
)

CHANNELS = 64


def _body(blocks: int) -> Residual:
    """Residual blocks and a 3x3, around which the input is skipped."""
    return Residual(
        *(ResidualBlock(CHANNELS) for _ in range(blocks)),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    )


class SRResNetUpsampler(nn.Module):
    """Stages of [3x3 64 -> 256, pixel shuffle x2, PReLU], then a 9x9 to RGB.

    Two stages at x4, one at x2. x3 is a bilinear x1.5 and one stage; an odd map repeats its last
    row or column for that, and what comes of them is cut off again.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.stages = shuffle_stages(CHANNELS, 4 if scale == 4 else 2, nn.PReLU)
        self.last = nn.Conv2d(CHANNELS, 3, 9, padding=4)
        self.reach = 3

    def forward(self, x: Tensor) -> Tensor:  # [N, 64, H, W] -> [N, 3, sH, sW]
        """Enlarge."""
        return self.last(self._by_three(x) if self.scale == 3 else self.stages(x))

    def _by_three(self, x: Tensor) -> Tensor:  # [N, 64, H, W] -> [N, 64, 3H, 3W]
        height, width = x.shape[-2:]
        x = F.interpolate(sizes.to_even(x), scale_factor=1.5, mode="bilinear", align_corners=False)
        return self.stages(x)[:, :, : 3 * height, : 3 * width]


class SRResNetBase(BaseNet):
    """Base-Net: lr [B,3,H,W] -> (coarse [B,3,sH,sW], feature [B,64,H,W]).

    Args:
        scale: s. light: the light coarse head with an image skip. blocks: residual blocks.
    """

    def __init__(self, scale: int, light: bool = False, blocks: int = 12) -> None:
        super().__init__()
        self.scale, self.image_skip, self.context = scale, light, 5 + 2 * blocks
        self.head = nn.Sequential(nn.Conv2d(3, CHANNELS, 9, padding=4), nn.PReLU())
        self.body = _body(blocks)
        self.upsampler = (
            PixelShuffleUpsampler(CHANNELS, scale) if light else SRResNetUpsampler(scale)
        )

    def features(self, lr: Tensor) -> Tensor:  # [B, 3, H, W] -> [B, 64, H, W]
        """The feature map alone."""
        return self.body(self.head(lr))


class SRResNetRefine(RefineNet):
    """Refine-Net: patches [N,64,p+2,p+2] -> [N,3,sp,sp], or the whole map when ``full``.

    Args:
        scale: s. full: whole map or patches. blocks: residual blocks.
    """

    def __init__(self, scale: int, full: bool = False, blocks: int = 4) -> None:
        super().__init__()
        self.context = 1 + 2 * blocks + 2
        self.body = _body(blocks)
        self.tail = Tail(CHANNELS, full)
        self.upsampler = SRResNetUpsampler(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Refine a batch of patches (or a map)."""
        return self.upsampler(self.tail(self.body(x)))
