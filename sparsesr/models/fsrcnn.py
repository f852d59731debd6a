"""FSRCNN under mask-guided refinement (MGA, ECCV 2022, section 4; FSRCNN: Dong et al., ECCV 2016).

d = 56 features, s = 12 after shrinking; the feature map handed to mask and Refine-Net has 12
channels. No image skip. Parameters 23,363 (base) / 41,694 (dnet, allnet) / 43,270 (mga), the same
at every scale.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..nn import SubPixelConvTranspose2d
from .blocks import Tail

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


class FSRCNNBase(nn.Module):
    """Base-Net: lr [B,3,H,W] -> (coarse [B,3,sH,sW], feature [B,12,H,W])."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.extract = nn.Sequential(nn.Conv2d(3, FEATURES, 5, padding=2), nn.PReLU(FEATURES))
        self.shrink = nn.Sequential(nn.Conv2d(FEATURES, CHANNELS, 1), nn.PReLU(CHANNELS))
        self.mapping = _mapping(3)
        self.upsampler = FSRCNNUpsampler(scale)

    def features(self, lr: Tensor) -> Tensor:  # [B, 3, H, W] -> [B, 12, H, W]
        """The feature map alone."""
        return self.mapping(self.shrink(self.extract(lr)))

    def forward(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Coarse image and feature map."""
        feature = self.features(lr)
        return self.upsampler(feature), feature


class FSRCNNRefine(nn.Module):
    """Refine-Net: patches [N,12,p+2,p+2] -> [N,3,sp,sp], or the whole map when ``full``."""

    def __init__(self, scale: int, full: bool = False) -> None:
        super().__init__()
        self.mapping = _mapping(1)
        self.tail = Tail(CHANNELS, full)
        self.upsampler = FSRCNNUpsampler(scale)

    @property
    def full(self) -> bool:
        """True: whole map, all padded. False: patches, the valid convolution trims the halo."""
        return self.tail.full

    @full.setter
    def full(self, value: bool) -> None:
        self.tail.full = value

    def forward(self, x: Tensor) -> Tensor:
        """Refine a batch of patches (or a map)."""
        return self.upsampler(self.tail(self.mapping(x)))
