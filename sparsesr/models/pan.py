"""PAN under mask-guided refinement (MGA, ECCV 2022; PAN: Zhao et al., ECCV 2020 workshops).

12 SCPA blocks in the Base-Net, 4 in the Refine-Net (10 + 6 and 14 + 2 in Table 5), 40 channels, 24
in the upsampler. This Refine-Net has no common tail: valid convolutions spread over its upsampler
trim the halo. Parameters (base / dnet, allnet / mga): x2 203,723 / 290,966 / 306,178;
x3 203,723 / 296,174 / 311,386; x4 214,739 / 312,998 / 328,210.

Neither parameters nor FLOPs tell whether images are skipped around the trunks; chosen: the Base-Net
adds the bilinear image, as PAN does, and the Refine-Net's trunk adds its patch.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from .blocks import (
    SCPA,
    BaseNet,
    HaloTrimming,
    PixelAttention,
    PixelShuffleUpsampler,
    RefineNet,
    Residual,
)

CHANNELS = 40
UPSAMPLER_CHANNELS = 24


def _body(blocks: int) -> Residual:
    """SCPA blocks and a 3x3, around which the input is skipped."""
    return Residual(
        *(SCPA(CHANNELS) for _ in range(blocks)),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    )


class _Stage(nn.Sequential):
    """Nearest enlargement, 3x3, pixel attention, LeakyReLU(0.2), 3x3, LeakyReLU(0.2)."""

    def __init__(self, factor: int, channels: int) -> None:
        super().__init__()
        out = UPSAMPLER_CHANNELS
        self.enlarge = nn.Upsample(scale_factor=factor, mode="nearest")
        self.up_conv = nn.Conv2d(channels, out, 3, padding=1)
        self.attention = PixelAttention(out)
        self.act1 = nn.LeakyReLU(0.2)
        self.hr_conv = nn.Conv2d(out, out, 3, padding=1)
        self.act2 = nn.LeakyReLU(0.2)


class PANUpsampler(nn.Module):
    """One stage of x2 or x3, or two of x2; then a 3x3 to RGB."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(_Stage(2 if scale == 4 else scale, CHANNELS))
        if scale == 4:
            self.stages.append(_Stage(2, UPSAMPLER_CHANNELS))
        self.last = nn.Conv2d(UPSAMPLER_CHANNELS, 3, 3, padding=1)
        self.reach = 1 if scale == 3 else 2

    def forward(self, x: Tensor) -> Tensor:  # [N, 40, H, W] -> [N, 3, sH, sW]
        """Enlarge."""
        return self.last(self.stages(x))


class PANRefineUpsampler(PANUpsampler, HaloTrimming):
    """``PANUpsampler``, at x3 with one more 3x3 and LeakyReLU(0.2), that trims the halo.

    The halo is s pixels wide once enlarged. On patches these 3x3 are valid: at x2 the first and the
    last; at x3 the first, the additional and the last; at x4 the first (where one pixel is two of
    the result), the second of stage 2 and the last. (The only assignment that gives the published
    FLOPs.)
    """

    _TRIMS: ClassVar = {
        2: ("stages.0.up_conv", "last"),
        3: ("stages.0.up_conv", "stages.1.0", "last"),
        4: ("stages.0.up_conv", "stages.1.hr_conv", "last"),
    }

    def __init__(self, scale: int, full: bool) -> None:
        super().__init__(scale)
        if scale == 3:
            extra = nn.Conv2d(UPSAMPLER_CHANNELS, UPSAMPLER_CHANNELS, 3, padding=1)
            self.stages.append(nn.Sequential(extra, nn.LeakyReLU(0.2)))
        self.reach = 2
        self.trims = self._TRIMS[scale]
        self.full = full


class PANBase(BaseNet):
    """Base-Net: lr [B,3,H,W] -> (coarse [B,3,sH,sW], feature [B,40,H,W]).

    Args:
        scale: s. light: the light coarse head. blocks: number of SCPA blocks.
    """

    image_skip = True

    def __init__(self, scale: int, light: bool = False, blocks: int = 12) -> None:
        super().__init__()
        self.scale, self.context = scale, 2 + 2 * blocks
        self.head = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.body = _body(blocks)
        self.upsampler = PixelShuffleUpsampler(CHANNELS, scale) if light else PANUpsampler(scale)

    def features(self, lr: Tensor) -> Tensor:  # [B, 3, H, W] -> [B, 40, H, W]
        """The feature map alone."""
        return self.body(self.head(lr))


class PANRefine(RefineNet):
    """Refine-Net: patches [N,40,p+2,p+2] -> [N,3,sp,sp], or the whole map when ``full``.

    Args:
        scale: s. full: whole map or patches. blocks: number of SCPA blocks.
    """

    def __init__(self, scale: int, full: bool = False, blocks: int = 4) -> None:
        super().__init__()
        self.context = 1 + 2 * blocks
        self.body = _body(blocks)
        self.upsampler = PANRefineUpsampler(scale, full)

    def forward(self, x: Tensor) -> Tensor:
        """Refine a batch of patches (or a map)."""
        return self.upsampler(self.body(x))
