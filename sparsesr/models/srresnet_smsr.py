"""SRResNet under sparse masks (SMSR's supplement, Table II; SRResNet: Ledig et al., CVPR 2017).

The table's baseline has 1.54M parameters at x4: a 9x9 convolution and PReLU; 16 residual blocks
[3x3, batch norm, ReLU, 3x3, batch norm]; 3x3, batch norm and the long skip; two stages [3x3
64 -> 256, pixel shuffle, PReLU]; a 3x3 to RGB, 1,535,622 in all. Its 112.11 GFLOPs are of another
network, see ``sparsesr tables``. Under masks it prints 1.58M once and 1.54M once.

Open, and chosen here: four groups of four blocks, each with one of SMSR's mask predictors,
1,582,990 parameters (the logits of the channel masks, 4,096, not counted, as the paper does with
its own); every 3x3 of a group computes what the masks select and has a static channel mask. PReLUs
have one parameter; at x2 and x3 there is one upsampling stage; no image skip.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..nn import MaskedConv2d, MaskedConvModule, SparseMask, SpatialMask
from .blocks import Residual, shuffle_stages
from .masked import MaskedNet, Step
from .registry import register

SCALES = (2, 3, 4)
CHANNELS = 64
GROUPS = 4
GROUP_BLOCKS = 4


def _group(channel_masks: str) -> nn.Sequential:
    """Residual blocks; without masks, the baseline's own."""

    def conv() -> MaskedConv2d:
        return MaskedConv2d(CHANNELS, CHANNELS, norm=True, channel_masks=channel_masks)

    return nn.Sequential(*(Residual(conv(), nn.ReLU(), conv()) for _ in range(GROUP_BLOCKS)))


class MaskedResidualGroup(MaskedConvModule):
    """Residual blocks that share a spatial mask: x + conv(relu(conv(x))) under it, four times.

    Outside the mask only dense channels are added to x.

    Args:
        channel_masks: "static" or "none", see ``MaskedConv2d``.
    """

    def __init__(self, channel_masks: str = "static") -> None:
        super().__init__()
        self.spa_mask = SpatialMask(CHANNELS)
        self.blocks = _group(channel_masks)

    def masked(self, x: Tensor, mask: SparseMask) -> Tensor:
        """The blocks; x is dense, what the first convolution of a block makes is not."""
        dense = self.split(mask.dense)
        layers = self.layers()
        for i in range(0, len(layers), 2):
            y = layers[i](x, mask.spatial, dense[i]).relu()
            x = x + layers[i + 1](y, mask.spatial, dense[i + 1], dense[i])
        return x

    def unmasked(self, x: Tensor) -> Tensor:
        """The baseline's blocks."""
        return self.blocks(x)


class MaskedSRResNet(MaskedNet):
    """SRResNet whose last groups compute what masks select: lr [B,3,H,W] in [0,1] -> [B,3,sH,sW].

    Args:
        scale: 2, 3 or 4.
        masked_groups: how many of the four, 0 (the baseline) to 4.
        channel_masks: "static" or "none".

    Raises:
        ValueError: another number of groups, other ``channel_masks``.

    Example:
        >>> import torch
        >>> out = MaskedSRResNet(scale=2).eval()(torch.rand(1, 3, 7, 5), return_details=True)
        >>> out.sr.shape, len(out.masks), out.masks[0].dense.shape
        (torch.Size([1, 3, 14, 10]), 4, torch.Size([1, 1, 512]))
    """

    def __init__(self, scale: int, masked_groups: int = 4, channel_masks: str = "static") -> None:
        super().__init__()
        if not 0 <= masked_groups <= GROUPS:
            raise ValueError(
                f"MaskedSRResNet: expected masked_groups in [0, {GROUPS}], got {masked_groups}"
            )
        self.scale = scale
        self.head = nn.Sequential(nn.Conv2d(3, CHANNELS, 9, padding=4), nn.PReLU())
        groups: list[nn.Module] = [_group("none") for _ in range(GROUPS - masked_groups)]
        groups += [MaskedResidualGroup(channel_masks) for _ in range(masked_groups)]
        self.body = nn.ModuleList(groups)
        self.body_end = nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS)
        )
        self.upsampler = shuffle_stages(CHANNELS, scale, nn.PReLU)
        self.last = nn.Conv2d(CHANNELS, 3, 3, padding=1)

    def super_resolve(self, lr: Tensor, step: Step) -> Tensor:
        """The network, its groups called by ``step``."""
        head = x = self.head(lr)
        for group in self.body:
            x = step(group, x)
        return self.last(self.upsampler(head + self.body_end(x)))


def build_srresnet_smsr(
    scale: int, masked_groups: int = 4, channel_masks: str = "static"
) -> MaskedSRResNet:
    """SRResNet with four masked groups, or another number.

    Args:
        masked_groups: 0 to 4, counted from the last. channel_masks: "static" or "none".
    """
    return MaskedSRResNet(scale, masked_groups, channel_masks)


register("srresnet-smsr", SCALES, "SRResNet under SMSR's sparse masks", build_srresnet_smsr)
