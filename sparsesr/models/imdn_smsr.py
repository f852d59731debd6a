"""IMDN under sparse masks (SMSR's supplement, Table II; IMDN: Hui et al., ACM Multimedia 2019).

The table prints 0.77M parameters at x4 and nothing of the structure. IMDN's 715,176 and five of
SMSR's mask predictors are 774,386 (the logits of the channel masks, 2,080, not counted, as the
paper does with its own). Open, and chosen here: the last five of the six blocks are masked, each by
a predictor of its own; in a masked block the four 3x3 convolutions compute what the masks select,
each with a static channel mask, and the attention and the 1x1 work on every pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..nn import MaskedConv2d, MaskedConvModule, SparseMask, SpatialMask
from .blocks import PixelShuffleUpsampler
from .imdn import CHANNELS, IMDB, SCALES, collecting
from .masked import MaskedNet, Step
from .registry import register

BLOCKS = 6


class MaskedIMDB(MaskedConvModule, IMDB):  # type: ignore[misc]  # the masks make more of the call
    """IMDN's distillation block, its 3x3 convolutions under masks.

    Args:
        channel_masks: "static" or "none", see ``MaskedConv2d``.
    """

    def __init__(self, channel_masks: str = "static") -> None:
        self._channel_masks = channel_masks
        super().__init__()
        self.spa_mask = SpatialMask(CHANNELS)

    def conv(self, inputs: int, outputs: int) -> nn.Conv2d:
        """A new 3x3 convolution of the block."""
        return MaskedConv2d(inputs, outputs, channel_masks=self._channel_masks)

    def masked(self, x: Tensor, mask: SparseMask) -> Tensor:
        """The block; features a convolution passes on are masked inputs of the next."""
        dense = self.split(mask.dense)
        rest, kept, inputs = x, [], None
        for conv, outputs in zip(self.convs, dense, strict=False):
            y = self.act(conv(rest, mask.spatial, outputs, inputs))
            part, rest = y.split(self.parts, dim=1)
            kept.append(part)
            inputs = outputs[self.parts[0] :]
        kept.append(self.last(rest, mask.spatial, dense[-1], inputs))
        return x + self.fuse(self.attention(torch.cat(kept, 1)))

    def unmasked(self, x: Tensor) -> Tensor:
        """The block of IMDN."""
        return IMDB.forward(self, x)


class MaskedIMDN(MaskedNet):
    """IMDN whose last blocks compute what masks select: lr [B,3,H,W] in [0,1] -> [B,3,sH,sW].

    The names of its tensors are those of ``imdn``, so that a trained IMDN can be loaded with
    ``strict=False``; with ``masked=False`` it is that network.

    Args:
        scale: 2, 3 or 4.
        masked_blocks: how many of the six, 0 to 6.
        channel_masks: "static" or "none".

    Raises:
        ValueError: another number of blocks, other ``channel_masks``.

    Example:
        >>> out = MaskedIMDN(scale=2).eval()(torch.rand(1, 3, 7, 5), return_details=True)
        >>> out.sr.shape, len(out.masks), out.masks[0].dense.shape
        (torch.Size([1, 3, 14, 10]), 5, torch.Size([1, 1, 208]))
    """

    def __init__(self, scale: int, masked_blocks: int = 5, channel_masks: str = "static") -> None:
        super().__init__()
        if not 0 <= masked_blocks <= BLOCKS:
            raise ValueError(
                f"MaskedIMDN: expected masked_blocks in [0, {BLOCKS}], got {masked_blocks}"
            )
        self.scale = scale
        self.head = nn.Conv2d(3, CHANNELS, 3, padding=1)
        blocks: list[nn.Module] = [IMDB() for _ in range(BLOCKS - masked_blocks)]
        blocks += [MaskedIMDB(channel_masks) for _ in range(masked_blocks)]
        self.body = nn.ModuleList(blocks)
        self.collect = collecting(BLOCKS)
        self.upsampler = PixelShuffleUpsampler(CHANNELS, scale)

    def super_resolve(self, lr: Tensor, step: Step) -> Tensor:
        """The network, its blocks called by ``step``."""
        head = x = self.head(lr)
        outputs = []
        for block in self.body:
            x = step(block, x)
            outputs.append(x)
        return self.upsampler(head + self.collect(torch.cat(outputs, 1)))


def build_imdn_smsr(
    scale: int, masked_blocks: int = 5, channel_masks: str = "static"
) -> MaskedIMDN:
    """IMDN with five masked blocks, or another number.

    Args:
        masked_blocks: 0 to 6, counted from the last. channel_masks: "static" or "none".
    """
    return MaskedIMDN(scale, masked_blocks, channel_masks)


register("imdn-smsr", SCALES, "IMDN under SMSR's sparse masks", build_imdn_smsr)
