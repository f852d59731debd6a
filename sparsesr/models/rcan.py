"""RCAN under mask-guided refinement (MGA, ECCV 2022; RCAN: Zhang et al., ECCV 2018).

7 residual groups of 20 RCABs in the Base-Net, 3 in the Refine-Net, 64 channels. Channel attention
averages over what it is given: the image, or one patch with its halo. Parameters (base / dnet,
allnet / mga): x2 10,867,699 / 15,704,870 / 15,743,002; x3 11,052,339 / 16,074,150 / 16,112,282;
x4 11,015,411 / 16,000,294 / 16,038,426.

Left open by parameters and FLOPs: RCAN's shift of the colour mean, left out here (the biases of
the first and last layer can hold it), and the skip around the Refine-Net's trunk, taken.
"""

from __future__ import annotations

from torch import Tensor, nn

from .blocks import (
    BaseNet,
    PixelShuffleUpsampler,
    RefineNet,
    Residual,
    ResidualGroup,
    Tail,
    shuffle_stages,
)

CHANNELS = 64


def _body(groups: int, blocks: int) -> Residual:
    """Residual groups and a 3x3, around which the input is skipped."""
    return Residual(
        *(ResidualGroup(CHANNELS, blocks) for _ in range(groups)),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    )


class RCANUpsampler(nn.Sequential):
    """3x3 64 -> 64 s^2 and pixel shuffle (x4: twice x2), then a 3x3 to RGB."""

    def __init__(self, scale: int) -> None:
        super().__init__(
            shuffle_stages(CHANNELS, scale),
            nn.Conv2d(CHANNELS, 3, 3, padding=1),
        )
        self.reach = 2


class RCANBase(BaseNet):
    """Base-Net: lr [B,3,H,W] -> (coarse [B,3,sH,sW], feature [B,64,H,W]).

    Args:
        scale: s. light: the light coarse head with an image skip. blocks: residual groups.
        group_blocks: RCABs in each.
    """

    def __init__(
        self, scale: int, light: bool = False, blocks: int = 7, group_blocks: int = 20
    ) -> None:
        super().__init__()
        self.scale, self.image_skip = scale, light
        self.head = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.body = _body(blocks, group_blocks)
        self.upsampler = PixelShuffleUpsampler(CHANNELS, scale) if light else RCANUpsampler(scale)

    def features(self, lr: Tensor) -> Tensor:  # [B, 3, H, W] -> [B, 64, H, W]
        """The feature map alone."""
        return self.body(self.head(lr))


class RCANRefine(RefineNet):
    """Refine-Net: patches [N,64,p+2,p+2] -> [N,3,sp,sp], or the whole map when ``full``.

    Args:
        scale: s. full: whole map or patches. blocks: residual groups. group_blocks: RCABs in each.
    """

    def __init__(
        self, scale: int, full: bool = False, blocks: int = 3, group_blocks: int = 20
    ) -> None:
        super().__init__()
        self.body = _body(blocks, group_blocks)
        self.tail = Tail(CHANNELS, full)
        self.upsampler = RCANUpsampler(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Refine a batch of patches (or a map)."""
        return self.upsampler(self.tail(self.body(x)))
