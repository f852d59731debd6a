"""FSRCNN under mask-guided refinement (MGA, ECCV 2022, section 4; FSRCNN: Dong et al., ECCV 2016).

d = 56 features, s = 12 after shrinking; the feature map handed to mask and Refine-Net has 12
channels. No image skip. Parameters 23,363 (base) / 41,694 (dnet, allnet) / 43,270 (mga), the same
at every scale.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..nn import SubPixelConvTranspose2d
from .blocks import BaseNet, PixelShuffleUpsampler, RefineNet, Tail

FEATURES = 56
CHANNELS = 12


def _mapping(count: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.PReLU(CHANNELS)]
    return nn.Sequential(*layers)


class FSRCNNUpsampler(nn.Sequential):
    """Expansion 1x1 12 -> 56, PReLU, 9x9 transposed convolution of stride s to RGB."""

    def __init__(self, scale: int) -> None:
        super().__init__(
            nn.Conv2d(CHANNELS, FEATURES, 1),
            nn.PReLU(FEATURES),
            SubPixelConvTranspose2d(
                FEATURES, 3, 9, stride=scale, padding=4, output_padding=scale - 1
            ),
        )
        self.reach = 2 if scale < 4 else 1


class FSRCNNBase(BaseNet):
    """Base-Net: lr [B,3,H,W] -> (coarse [B,3,sH,sW], feature [B,12,H,W]).

    Args:
        scale: s. light: the light coarse head with an image skip. blocks: 3x3 mapping layers.
    """

    def __init__(self, scale: int, light: bool = False, blocks: int = 3) -> None:
        super().__init__()
        self.scale, self.image_skip, self.context = scale, light, 2 + blocks
        self.extract = nn.Sequential(nn.Conv2d(3, FEATURES, 5, padding=2), nn.PReLU(FEATURES))
        self.shrink = nn.Sequential(nn.Conv2d(FEATURES, CHANNELS, 1), nn.PReLU(CHANNELS))
        self.mapping = _mapping(blocks)
        self.upsampler = PixelShuffleUpsampler(CHANNELS, scale) if light else FSRCNNUpsampler(scale)

    def features(self, lr: Tensor) -> Tensor:  # [B, 3, H, W] -> [B, 12, H, W]
        """The feature map alone."""
        return self.mapping(self.shrink(self.extract(lr)))


class FSRCNNRefine(RefineNet):
    """Refine-Net: patches [N,12,p+2,p+2] -> [N,3,sp,sp], or the whole map when ``full``.

    Args:
        scale: s. full: whole map or patches. blocks: 3x3 mapping layers.
    """

    def __init__(self, scale: int, full: bool = False, blocks: int = 1) -> None:
        super().__init__()
        self.context = blocks + 2
        self.mapping = _mapping(blocks)
        self.tail = Tail(CHANNELS, full)
        self.upsampler = FSRCNNUpsampler(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Refine a batch of patches (or a map)."""
        return self.upsampler(self.tail(self.mapping(x)))
