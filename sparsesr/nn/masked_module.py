"""What every network part that computes under masks is made of (SMSR, CVPR 2021).

A spatial mask says which pixels matter, channel masks say which channels are computed everywhere
all the same. In training both are soft, sampled by Gumbel-softmax; in eval mode they are hard.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..ops._checks import check_pixel_mask


class SparseMask(NamedTuple):
    """The masks of one module: hard (bool) in eval mode, soft in [0, 1] in training.

    Attributes:
        spatial: pixels that matter, [B, 1, H, W].
        dense: channels computed at every pixel, [B, L, C].
    """

    spatial: Tensor
    dense: Tensor

    def active(self) -> Tensor:
        """Share of the values that are computed, [B]: mean of d + (1 - d) M.

        The mean runs over layers, channels and pixels; the paper's sparsity is 1 minus this.
        """
        share = self.spatial.float().mean((1, 2, 3))
        dense = self.dense.float().mean((1, 2))
        return dense + (1 - dense) * share


class SpatialMask(nn.Sequential):
    """feature [B,C,H,W] -> two logits per pixel [B,2,H,W]; it matters when the second is larger.

    Decided at half the resolution. The last row or column of an odd side is averaged over what is
    there (the released network has no mask there and never computes it).

    Args:
        channels: C.
        width: channels inside.
    """

    def __init__(self, channels: int, width: int = 16) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2, ceil_mode=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 2, 3, stride=2, padding=1, output_padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits of every pixel of ``x``."""
        return super().forward(x)[..., : x.shape[2], : x.shape[3]]


class MaskedModule(nn.Module):
    """A part of a network that computes what masks select. Subclasses give the four methods below.

    Attributes:
        spa_mask: predictor of the spatial mask; None for a module that has to be given one.
    """

    spa_mask: SpatialMask | None

    def masked(self, x: Tensor, mask: SparseMask) -> Tensor:
        """[B,C,H,W] -> [B,C,H,W] under ``mask``, hard or soft."""
        raise NotImplementedError

    def unmasked(self, x: Tensor) -> Tensor:
        """Every channel at every pixel, without mask predictor: the dense form."""
        raise NotImplementedError

    def hard_channels(self, x: Tensor) -> Tensor:
        """The dense channels [B,L,C] bool at inference."""
        raise NotImplementedError

    def soft_channels(self, x: Tensor, temperature: float) -> Tensor:
        """A Gumbel-softmax sample of the dense channels [B,L,C] in [0, 1]; one for the batch."""
        raise NotImplementedError

    def forward(
        self,
        x: Tensor,  # [B, C, H, W]
        temperature: float = 1.0,
        spatial: Tensor | None = None,  # [B, 1, H, W] bool
    ) -> tuple[Tensor, SparseMask]:
        """[B,C,H,W] -> the same shape, and the masks it was computed under.

        Args:
            x: NCHW or channels_last; any H, W and B.
            temperature: tau of the Gumbel-softmax in training mode, > 0; unused in eval mode.
            spatial: pixels that matter, in place of those the module would predict.

        Raises:
            TypeError: ``spatial`` is not bool, or on another device.
            ValueError: ``spatial`` of another size, none for a module that predicts none, or a
                temperature that is not above 0.
        """
        if spatial is not None:
            check_pixel_mask(type(self).__name__, spatial, x)
        elif self.spa_mask is None:
            raise ValueError(
                f"{type(self).__name__}: expected spatial [B,1,H,W] bool, for it predicts no mask "
                "of its own; got None"
            )
        mask = self.sample(x, temperature, spatial) if self.training else self.decide(x, spatial)
        return self.masked(x, mask), mask

    def decide(self, x: Tensor, spatial: Tensor | None = None) -> SparseMask:
        """The hard masks of inference."""
        if spatial is None:
            logits = self._logits(x)
            spatial = logits[:, 1:] > logits[:, :1]
        return SparseMask(spatial, self.hard_channels(x))

    def sample(self, x: Tensor, temperature: float, spatial: Tensor | None = None) -> SparseMask:
        """Soft masks, drawn anew at every call; differentiable. A given ``spatial`` is as it is."""
        if spatial is None:
            soft = gumbel_softmax(self._logits(x), temperature, 1)[:, 1:]
        else:
            soft = spatial.to(x.dtype)
        return SparseMask(soft, self.soft_channels(x, temperature))

    def _logits(self, x: Tensor) -> Tensor:
        assert self.spa_mask is not None
        return self.spa_mask(x)


def has_sparse_masks(net: nn.Module) -> bool:
    """Whether the network has parts that compute under masks, so that sparsity means something."""
    return any(isinstance(module, MaskedModule) for module in net.modules())


def check_mask(owner: str, name: str, mask: object, shape: tuple[int, ...]) -> None:
    """``mask`` is a tensor of that shape, bool (hard) or floating (soft).

    Raises:
        TypeError: no tensor, or of another dtype.
        ValueError: another shape.
    """
    if not isinstance(mask, Tensor) or not (mask.dtype == torch.bool or mask.is_floating_point()):
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(
            f"{owner}: expected {name} {list(shape)} as a tensor, bool (hard) or floating (soft), "
            f"got {str(got).removeprefix('torch.')}"
        )
    if tuple(mask.shape) != shape:
        raise ValueError(f"{owner}: expected {name} {list(shape)}, got {list(mask.shape)}")


def gumbel_softmax(logits: Tensor, temperature: float, dim: int) -> Tensor:
    """softmax((logits + g) / temperature) along ``dim``; g is standard Gumbel noise, one per logit.

    Args:
        logits: any shape; bfloat16 and float16 are computed in float32.
        temperature: tau > 0; the smaller, the closer to one-hot.
        dim: the classes.

    Raises:
        ValueError: a temperature that is not above 0.

    Source: SMSR, eq. 2; Jang et al., ICLR 2017.
    """
    if not temperature > 0:
        raise ValueError(f"gumbel_softmax: expected temperature > 0, got {temperature}")
    exact = logits if logits.dtype == torch.float64 else logits.float()
    # -log(-log u) of a uniform u is -log e of an exponential e, which is never 0.
    noise = torch.empty_like(exact).exponential_().log().neg()
    return ((exact + noise) / temperature).softmax(dim).to(logits.dtype)
