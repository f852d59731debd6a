"""SMSR: five sparse mask modules, in each its own spatial mask (Wang et al., CVPR 2021).

The state-dict keys are those of the released x2 checkpoint, which loads with ``strict=True``
(see ``sparsesr.models.convert``). Two things differ from the released code on purpose: training
uses the formula that inference uses (``released_formula=True`` for theirs), and the last row or
column of an image with an odd side is masked like the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn import SparseMask, SparseMaskModule
from ..nn.sparse_refine import check_image
from .registry import register

SCALES = (2, 3, 4)
PIXEL_RANGE = 255.0  # of the numbers inside the network
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)


class MaskedOutput(NamedTuple):
    """What a network of sparse mask modules computed.

    Attributes:
        sr: super-resolved image [B, 3, s*H, s*W], unclamped.
        masks: of every module: spatial [B,1,H,W] and dense channels [B,L,C]; bool in eval mode,
            soft in training mode.
    """

    sr: Tensor
    masks: tuple[SparseMask, ...]

    def active(self) -> Tensor:
        """Share of the values that every module computes, [B, modules]; differentiable if soft."""
        return torch.stack([mask.active() for mask in self.masks], dim=1)

    def sparsity(self) -> Tensor:
        """The paper's sparsity of each image, [B]: 1 - mean over modules of the active share."""
        return 1 - self.active().mean(1)


class MeanShift(nn.Conv2d):
    """Adds (sign +1) or subtracts (-1) the mean colour of DIV2K; frozen."""

    def __init__(self, sign: int) -> None:
        super().__init__(3, 3, 1)
        mean = torch.tensor(DIV2K_MEAN) * PIXEL_RANGE
        with torch.no_grad():
            self.weight.copy_(torch.eye(3)[..., None, None])
            self.bias.copy_(sign * mean)  # type: ignore[union-attr]
        self.requires_grad_(False)


class SMSR(nn.Module):
    """SMSR: lr [B,3,H,W] in [0,1] -> [B,3,sH,sW], unclamped.

    Conv3x3, ReLU, Conv3x3; the modules; Conv1x1 over all their outputs, ReLU, Conv3x3 and the long
    skip; Conv3x3 and PixelShuffle; plus the bicubic image.

    In eval mode masks are hard and the modules compute what they select. In training mode they are
    Gumbel-softmax samples at ``temperature``, an attribute that the trainer lowers.

    Args:
        scale: 2, 3 or 4.
        channels: C.
        modules: sparse mask modules.
        layers: 3x3 convolutions in each.
        channel_masks: "static" (the paper), "dynamic" or "none" (supplement, Table I).
        released_formula: train as the released code does, see ``SparseMaskBlock``.

    Example:
        >>> out = SMSR(scale=2).eval()(torch.rand(1, 3, 9, 7), return_details=True)
        >>> out.sr.shape, len(out.masks), out.masks[0].spatial.shape, out.sparsity().shape
        (torch.Size([1, 3, 18, 14]), 5, torch.Size([1, 1, 9, 7]), torch.Size([1]))
    """

    # The global mean in every channel attention: an output pixel depends on the whole image.
    receptive_field: int | None = None

    def __init__(
        self,
        scale: int,
        channels: int = 64,
        modules: int = 5,
        layers: int = 4,
        channel_masks: str = "static",
        released_formula: bool = False,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.temperature = 1.0
        self.sub_mean = MeanShift(-1)
        self.head = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.body = nn.ModuleList(
            SparseMaskModule(channels, layers, channel_masks, released_formula)
            for _ in range(modules)
        )
        self.collect = nn.Sequential(
            nn.Conv2d(channels * modules, channels, 1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.tail = nn.Sequential(
            nn.Conv2d(channels, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale)
        )
        self.add_mean = MeanShift(1)

    def forward(
        self,
        lr: Tensor,  # [B, 3, H, W]
        return_details: bool = False,
        masked: bool = True,
    ) -> Tensor | MaskedOutput:
        """Super-resolve ``lr`` [B,3,H,W] in [0,1] to [B,3,sH,sW], unclamped.

        Args:
            lr: any H, W, B; NCHW or channels_last.
            return_details: return ``MaskedOutput`` instead of the image alone.
            masked: False ignores all masks: every channel at every pixel, another function (the
                dense network of the same weights, about 0.1 dB below).

        Raises:
            ValueError: details of a call without masks.
        """
        check_image(lr)
        if return_details and not masked:
            raise ValueError("SMSR: masked=False makes no masks to return; drop return_details")
        image = self.sub_mean(lr * PIXEL_RANGE)
        head = x = self.head(image)
        features: list[Tensor] = []
        masks: list[SparseMask] = []
        for module in self._modules_in_order():
            if masked:
                x, mask = module(x, self.temperature)
                masks.append(mask)
            else:
                x = module.unmasked(x)
            features.append(x)
        x = self.tail(self.collect(torch.cat(features, dim=1)) + head)
        x = x + F.interpolate(image, scale_factor=self.scale, mode="bicubic", align_corners=False)
        sr = self.add_mean(x) / PIXEL_RANGE
        return MaskedOutput(sr, tuple(masks)) if return_details else sr

    def _modules_in_order(self) -> Sequence[SparseMaskModule]:
        return self.body  # type: ignore[return-value]


def build_smsr(scale: int, channel_masks: str = "static", released_formula: bool = False) -> SMSR:
    """SMSR as published.

    Args:
        channel_masks: "static", "dynamic" or "none".
        released_formula: train as the released code does.
    """
    return SMSR(scale, channel_masks=channel_masks, released_formula=released_formula)


register("smsr", SCALES, "SMSR: five modules that compute what their masks select", build_smsr)
