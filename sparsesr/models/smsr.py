"""SMSR: five sparse mask modules, in each its own spatial mask (Wang et al., CVPR 2021).

The state-dict keys are those of the released x2 checkpoint, which loads with ``strict=True``
(see ``sparsesr.models.convert``). Two things differ from the released code on purpose: training
uses the formula that inference uses (``released_formula=True`` for theirs), and the last row or
column of an image with an odd side is masked like the others.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn import SparseMaskModule
from .masked import MaskedNet, Step
from .registry import register

SCALES = (2, 3, 4)
PIXEL_RANGE = 255.0  # of the numbers inside the network
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
SPATIAL_MASKS = ("learnt", "gradient")


class MeanShift(nn.Conv2d):
    """Adds (sign +1) or subtracts (-1) the mean colour of DIV2K; frozen."""

    def __init__(self, sign: int) -> None:
        super().__init__(3, 3, 1)
        mean = torch.tensor(DIV2K_MEAN) * PIXEL_RANGE
        with torch.no_grad():
            self.weight.copy_(torch.eye(3)[..., None, None])
            self.bias.copy_(sign * mean)  # type: ignore[union-attr]
        self.requires_grad_(False)


class SMSR(MaskedNet):
    """SMSR: lr [B,3,H,W] in [0,1] -> [B,3,sH,sW], unclamped.

    Conv3x3, ReLU, Conv3x3; the modules; Conv1x1 over all their outputs, ReLU, Conv3x3 and the long
    skip; Conv3x3 and PixelShuffle; plus the bicubic image.

    Args:
        scale: 2, 3 or 4.
        channels: C.
        modules: sparse mask modules.
        layers: 3x3 convolutions in each.
        channel_masks: "static" (the paper), "dynamic" or "none" (supplement, Table I).
        released_formula: train as the released code does, see ``SparseMaskBlock``.
        spatial_masks: "learnt" (the paper: every module predicts its own) or "gradient"
            (supplement, figure VII): no predictors, all modules compute the same pixels, those
            with the largest gradient in the image (``nn.gradient_mask``).
        active: share of the pixels for "gradient"; an attribute that may be set later, and an
            argument of the call, for either kind.

    Raises:
        ValueError: other ``channel_masks`` or ``spatial_masks``.

    Example:
        >>> out = SMSR(scale=2).eval()(torch.rand(1, 3, 9, 7), return_details=True)
        >>> out.sr.shape, len(out.masks), out.masks[0].spatial.shape, out.sparsity().shape
        (torch.Size([1, 3, 18, 14]), 5, torch.Size([1, 1, 9, 7]), torch.Size([1]))
    """

    def __init__(
        self,
        scale: int,
        channels: int = 64,
        modules: int = 5,
        layers: int = 4,
        channel_masks: str = "static",
        released_formula: bool = False,
        spatial_masks: str = "learnt",
        active: float = 0.5,
    ) -> None:
        super().__init__()
        if spatial_masks not in SPATIAL_MASKS:
            raise ValueError(
                f"SMSR: expected spatial_masks in {', '.join(SPATIAL_MASKS)}; got {spatial_masks!r}"
            )
        learnt = spatial_masks == "learnt"
        self.scale = scale
        self.active = None if learnt else active
        self.sub_mean = MeanShift(-1)
        self.head = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.body = nn.ModuleList(
            SparseMaskModule(channels, layers, channel_masks, released_formula, predicts=learnt)
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

    def super_resolve(self, lr: Tensor, step: Step) -> Tensor:
        """The network, its modules called by ``step``."""
        image = self.sub_mean(lr * PIXEL_RANGE)
        head = x = self.head(image)
        features = []
        for module in self.body:
            x = step(module, x)
            features.append(x)
        x = self.tail(self.collect(torch.cat(features, dim=1)) + head)
        x = x + F.interpolate(image, scale_factor=self.scale, mode="bicubic", align_corners=False)
        return self.add_mean(x) / PIXEL_RANGE


def build_smsr(
    scale: int,
    channel_masks: str = "static",
    released_formula: bool = False,
    spatial_masks: str = "learnt",
    active: float = 0.5,
) -> SMSR:
    """SMSR as published, or one of its variants.

    Args:
        channel_masks: "static", "dynamic" or "none".
        released_formula: train as the released code does.
        spatial_masks: "learnt" or "gradient". active: share of the pixels for "gradient".
    """
    return SMSR(
        scale,
        channel_masks=channel_masks,
        released_formula=released_formula,
        spatial_masks=spatial_masks,
        active=active,
    )


register("smsr", SCALES, "SMSR: five modules that compute what their masks select", build_smsr)
