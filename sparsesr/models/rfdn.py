"""RFDN under mask-guided refinement (MGA, ECCV 2022; RFDN: Liu et al., ECCV 2020 workshops).

4 RFDB blocks in the Base-Net, 2 in the Refine-Net, 50 channels, 12 in the attention. The Base-Net's
ESA pools as RFDN's does; the Refine-Net's does not, as its patches are smaller than the pooling
window (the published FLOPs need both). ESA acts on what it is given: the image, or one patch with
its halo. Parameters (base / dnet, allnet / mga): x2 417,212 / 684,224 / 707,726; x3 423,977 /
697,754 / 721,256; x4 433,448 / 716,696 / 740,198.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import RFDB, BaseNet, PixelShuffleUpsampler, RefineNet, Tail

CHANNELS = 50
ATTENTION = 12


class RFDBChain(nn.Module):
    """RFDBs in a row; all their outputs, concatenated, 1x1, LeakyReLU(0.05), 3x3; + x.

    Args:
        blocks: number of RFDBs. pool: the pooling of their attention.
    """

    def __init__(self, blocks: int, pool: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(RFDB(CHANNELS, ATTENTION, pool) for _ in range(blocks))
        self.fuse = nn.Sequential(nn.Conv2d(blocks * CHANNELS, CHANNELS, 1), nn.LeakyReLU(0.05))
        self.last = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # [N, 50, H, W] -> same
        """Apply the chain."""
        y, outputs = x, []
        for block in self.blocks:
            y = block(y)
            outputs.append(y)
        return x + self.last(self.fuse(torch.cat(outputs, 1)))


class RFDNBase(BaseNet):
    """Base-Net: lr [B,3,H,W] -> (coarse [B,3,sH,sW], feature [B,50,H,W]).

    Its head is light already; ``light`` adds the image skip. What a pixel depends on is not a
    fixed window: the attention enlarges its pooled map by a ratio that depends on the image's size.

    Args:
        scale: s. light: the light coarse head. blocks: number of RFDBs.
    """

    def __init__(self, scale: int, light: bool = False, blocks: int = 4) -> None:
        super().__init__()
        self.scale, self.image_skip = scale, light
        self.head = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.body = RFDBChain(blocks, pool=True)
        self.upsampler = PixelShuffleUpsampler(CHANNELS, scale)

    def features(self, lr: Tensor) -> Tensor:  # [B, 3, H, W] -> [B, 50, H, W]
        """The feature map alone."""
        return self.body(self.head(lr))


class RFDNRefine(RefineNet):
    """Refine-Net: patches [N,50,p+2,p+2] -> [N,3,sp,sp], or the whole map when ``full``.

    Args:
        scale: s. full: whole map or patches. blocks: number of RFDBs.
    """

    def __init__(self, scale: int, full: bool = False, blocks: int = 2) -> None:
        super().__init__()
        self.body = RFDBChain(blocks, pool=False)
        self.tail = Tail(CHANNELS, full)
        self.upsampler = PixelShuffleUpsampler(CHANNELS, scale)

    def forward(self, x: Tensor) -> Tensor:
        """Refine a batch of patches (or a map)."""
        return self.upsampler(self.tail(self.body(x)))
