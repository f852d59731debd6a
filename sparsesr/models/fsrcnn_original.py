"""FSRCNN as PCSR accelerates it (Dong et al., ECCV 2016), with the keys of its released weights.

Beside the FSRCNN of MGA (``fsrcnn-base``): four 3x3 layers without activations between them, one
slope in every PReLU, and at x4 a transposed convolution with padding 3.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..nn import SubPixelConvTranspose2d
from ..nn.sparse_refine import check_image
from .registry import register

SCALES = (2, 3, 4)
FEATURES, SHRUNK, MAPPING = 56, 12, 4
CONTEXT = 2 + MAPPING  # LR pixels around one that its feature depends on


class FSRCNNEncoder(nn.Module):
    """All of FSRCNN but the transposed convolution: [B,3,h,w] -> [B,d,h,w].

    Conv5x5, PReLU; Conv1x1 to 12, PReLU; four Conv3x3, PReLU; Conv1x1 to d, PReLU.

    Args:
        features: d.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.head_conv = nn.Sequential(nn.Conv2d(3, features, 5, padding=2), nn.PReLU())
        self.body_conv = nn.Sequential(
            nn.Sequential(nn.Conv2d(features, SHRUNK, 1), nn.PReLU()),
            *(nn.Conv2d(SHRUNK, SHRUNK, 3, padding=1) for _ in range(MAPPING)),
            nn.PReLU(),
            nn.Sequential(nn.Conv2d(SHRUNK, features, 1), nn.PReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The feature map."""
        return self.body_conv(self.head_conv(x))


class FSRCNN(FSRCNNEncoder):
    """FSRCNN: lr [B,3,H,W] in [0,1] -> [B,3,sH,sW], unclamped. No image skip.

    Args:
        scale: 2, 3 or 4.

    Example:
        >>> import torch
        >>> FSRCNN(scale=4)(torch.rand(2, 3, 5, 7)).shape
        torch.Size([2, 3, 20, 28])
    """

    receptive_field = 2 * (CONTEXT + 2) + 1

    def __init__(self, scale: int) -> None:
        super().__init__(FEATURES)
        self.scale = scale
        padding = 3 if scale == 4 else 4  # 3 as released; at x2 no output padding would fit it
        self.tail_conv = SubPixelConvTranspose2d(
            FEATURES, 3, 9, scale, padding, output_padding=scale - 9 + 2 * padding
        )

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve ``lr``; any B, H and W."""
        check_image(lr)
        return self.tail_conv(super().forward(lr))


def build_fsrcnn(scale: int) -> FSRCNN:
    """FSRCNN (d = 56, s = 12, m = 4)."""
    return FSRCNN(scale)


register("fsrcnn", SCALES, "FSRCNN as released with PCSR", build_fsrcnn)
