"""The mask predictor (MP) of MGA: which patches would gain from refinement."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import engine


class MaskPredictor(nn.Module):
    """Scores every patch of a feature map by the error its coarse restoration is expected to have.

    Conv3x3(C -> C), ReLU, Conv3x3(C -> 2), softmax over the two channels of which the second is
    kept, p x p mean, LeakyReLU(0.1) -> m; then a dynamic convolution: every patch mixes the 5x5
    scores around it with its own weights, ``mask = sum_j w_j(m) * unfold5x5(m)_j`` with ``w`` a
    1x1 convolution 1 -> 25 of m. (Hu et al., ECCV 2022, section 3.2; pooling after the softmax and
    filters from m as in the released code, which the parameter counts confirm.)

    ``channels_out=1`` is the one-channel variant of Table 3: Conv3x3(C -> 1) and a sigmoid (the
    paper does not say what replaces the softmax; this is the natural form).

    Args:
        channels: C of the feature map.
        patch_size: p, pixels per side of a patch.
        channels_out: 2, or 1 for the variant of Table 3.

    Shapes: feature [B, C, H, W] -> mask [B, 1, ceil(H/p), ceil(W/p)]; where p does not divide the
    size, the last patch is the mean of the pixels it has.

    Attributes:
        reach: pixels of the feature on every side of a patch that its score depends on.

    Raises:
        ValueError: ``channels_out`` other than 1 or 2, or ``patch_size`` below 1.

    Example:
        >>> MaskPredictor(12)(torch.randn(1, 12, 9, 16)).shape
        torch.Size([1, 1, 3, 4])
    """

    window = 5

    def __init__(self, channels: int, patch_size: int = 4, channels_out: int = 2) -> None:
        super().__init__()
        if channels_out not in (1, 2):
            raise ValueError(f"MaskPredictor: expected channels_out 1 or 2, got {channels_out}")
        if patch_size < 1:
            raise ValueError(f"MaskPredictor: expected patch_size >= 1, got {patch_size}")
        self.patch_size = patch_size
        self.reach = self.window // 2 * patch_size + 2  # patches around, and two convolutions
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels_out, 3, padding=1)
        self.pool_act = nn.LeakyReLU(0.1)
        self.filters = nn.Conv2d(1, self.window**2, 1)
        self._start_as_identity()

    @torch.no_grad()
    def _start_as_identity(self) -> None:
        """Let the dynamic convolution begin as ``mask = m``.

        From a random start it often pulls every score to zero, where the softmax is saturated and
        no gradient is left: the training then ends with a constant mask.
        """
        self.filters.weight.zero_()
        self.filters.bias.zero_()  # type: ignore[union-attr]
        self.filters.bias[self.window**2 // 2] = 1.0  # type: ignore[index]

    def forward(self, feature: Tensor) -> Tensor:  # [B, C, H, W] -> [B, 1, Gh, Gw]
        """Scores of all patches, unbounded floats."""
        probability = engine.run(self, feature, "probability")
        pooled = F.avg_pool2d(probability, self.patch_size, ceil_mode=True)  # [B, 1, Gh, Gw]
        return self._dynamic_conv(self.pool_act(pooled))

    def probability(self, feature: Tensor) -> Tensor:  # [B, C, H, W] -> [B, 1, H, W]
        """How much each pixel would gain, in [0, 1]: all that runs at the size of the feature."""
        logits = self.conv2(self.act(self.conv1(feature)))  # [B, 2, H, W]
        return logits.sigmoid() if self.conv2.out_channels == 1 else logits.softmax(1)[:, 1:]

    def _dynamic_conv(self, m: Tensor) -> Tensor:  # [B, 1, Gh, Gw]
        batch, _, gh, gw = m.shape
        around = F.unfold(m, self.window, padding=self.window // 2)  # [B, 25, Gh*Gw]
        around = around.reshape(batch, self.window**2, gh, gw)
        return (self.filters(m) * around).sum(1, keepdim=True)
