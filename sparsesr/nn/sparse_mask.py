"""Sparse mask modules (SMSR): convolutions whose channels are dense or live on a spatial mask.

In training both masks are soft, sampled by Gumbel-softmax; in eval mode they are hard and the
block runs as one op. Source: Wang et al., "Exploring Sparsity in Image Super-Resolution for
Efficient Inference", CVPR 2021, section 3 and its supplement.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import ops
from ..ops._packing import Cache
from .masked_module import MaskedModule, SparseMask, SpatialMask, check_mask, gumbel_softmax

CHANNEL_MASKS = ("static", "dynamic", "none")

_hard_channels = Cache()


class DynamicChannels(nn.Sequential):
    """feature [B,C,H,W] -> one logit per layer and channel [B,L,C]; dense when above 0.

    A global mean and two 1x1 convolutions (supplement, Table I; the widths follow from its
    parameter count).
    """

    def __init__(self, channels: int, layers: int, width: int = 16) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, width, 1),
            nn.ReLU(),
            nn.Conv2d(width, layers * channels, 1),
            nn.Unflatten(1, (layers, channels)),
            nn.Flatten(2),
        )


class SparseMaskBlock(nn.Module):
    """L 3x3 convolutions under the masks, and a 1x1 that collects their features (SMB).

    With d_i the dense channels of layer i, s_i = 1 - d_i and M the spatial mask::

        fea_0 = relu(conv_0(x) * (d_0 + s_0 M))
        fea_i = relu(conv_i(fea_{i-1} d_{i-1}) * (d_i + s_i M) + conv_i(fea_{i-1} s_{i-1}) * M)
        out   = collect(cat(fea_0, ..., fea_{L-1}))

    Args:
        channels: C.
        layers: L.
        channel_masks: "static" (learnt, the paper), "dynamic" (from the input) or "none" (every
            channel sparse).
        released_formula: train as the released code does, which splits the input of layer i by d_i
            where it runs with d_{i-1} later. Inference is the formula above in either case.

    Raises:
        ValueError: other ``channel_masks``, or a size below 1.
    """

    def __init__(
        self,
        channels: int = 64,
        layers: int = 4,
        channel_masks: str = "static",
        released_formula: bool = False,
    ) -> None:
        super().__init__()
        if channel_masks not in CHANNEL_MASKS:
            raise ValueError(
                f"SparseMaskBlock: expected channel_masks in {', '.join(CHANNEL_MASKS)}; "
                f"got {channel_masks!r}"
            )
        if channels < 1 or layers < 1:
            raise ValueError(
                f"SparseMaskBlock: expected channels and layers >= 1, got {channels} and {layers}"
            )
        self.channel_masks = channel_masks
        self.released_formula = released_formula
        if channel_masks == "static":
            self.ch_mask = nn.Parameter(torch.rand(1, channels, layers, 2))
        elif channel_masks == "dynamic":
            self.channel_logits = DynamicChannels(channels, layers)
        self.body = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(layers)
        )
        self.collect = nn.Conv2d(channels * layers, channels, 1)

    def forward(self, x: Tensor, spatial: Tensor, dense: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C,H,W] under ``spatial`` [B,1,H,W] and ``dense`` [B,L,C].

        Bool masks run through ``ops.masked_block``, soft ones as plain torch; both are of a kind.

        Raises:
            TypeError: a mask that is neither bool nor floating; one bool and one soft.
            ValueError: masks of another size.
        """
        self._check_masks(x, spatial, dense)
        if spatial.dtype != torch.bool:
            return self._soft(x, spatial, dense)
        # Under autocast x is narrower than the parameters; else `to` returns them as they are.
        layers: Any = self.body
        weights = [conv.weight.to(x.dtype) for conv in layers]
        collect: Any = self.collect
        weight, bias = collect.weight.to(x.dtype), collect.bias.to(x.dtype)
        if self.channel_masks != "dynamic":  # the same channels for every image
            return ops.masked_block(x, weights, weight, bias, dense[0], spatial)
        images = zip(x.split(1), dense, spatial.split(1), strict=True)
        return torch.cat([ops.masked_block(i, weights, weight, bias, d, m) for i, d, m in images])

    def unmasked(self, x: Tensor) -> Tensor:
        """The same convolutions at every pixel and channel: the dense network to compare with."""
        features = []
        for conv in self.body:
            x = conv(x).relu()
            features.append(x)
        return self.collect(torch.cat(features, dim=1))

    def hard_channels(self, x: Tensor) -> Tensor:
        """The dense channels [B,L,C] bool at inference."""
        if self.channel_masks == "dynamic":
            return self.channel_logits(x) > 0
        if self.channel_masks == "static" and torch.compiler.is_compiling():
            dense = self._likelier()
        elif self.channel_masks == "static":
            # The same tensor at every call: a backend packs the weights for it once.
            dense = _hard_channels.get((), [self.ch_mask], self._likelier)
        else:
            dense = self._no_channels(x, torch.bool)
        return dense.expand(x.shape[0], -1, -1)

    def _likelier(self) -> Tensor:
        return (self.ch_mask[..., 0] > self.ch_mask[..., 1]).transpose(1, 2).contiguous()

    def soft_channels(self, x: Tensor, temperature: float) -> Tensor:
        """A Gumbel-softmax sample of the dense channels [B,L,C] in [0, 1]; one for the batch."""
        if self.channel_masks == "dynamic":
            # Two classes with logits (l, 0): the same distribution as a sigmoid of the difference.
            logits = self.channel_logits(x)
            return gumbel_softmax(torch.stack([logits, torch.zeros_like(logits)]), temperature, 0)[
                0
            ]
        if self.channel_masks == "static":
            dense = gumbel_softmax(self.ch_mask, temperature, -1)[..., 0].transpose(1, 2)
        else:
            dense = self._no_channels(x, x.dtype)
        return dense.expand(x.shape[0], -1, -1)

    def _no_channels(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.zeros(1, len(self.body), x.shape[1], dtype=dtype, device=x.device)

    def _check_masks(self, x: Tensor, spatial: Tensor, dense: Tensor) -> None:
        name = type(self).__name__
        check_mask(name, "spatial", spatial, (x.shape[0], 1, *x.shape[2:]))
        check_mask(name, "dense", dense, (x.shape[0], len(self.body), x.shape[1]))
        if (spatial.dtype == torch.bool) != (dense.dtype == torch.bool):
            raise TypeError(
                f"{name}: expected spatial and dense both bool or both soft, got "
                f"{spatial.dtype} and {dense.dtype}; threshold the soft one: mask > 0.5"
            )

    def _soft(self, x: Tensor, spatial: Tensor, dense: Tensor) -> Tensor:
        d = dense.permute(1, 0, 2)[..., None, None]  # [L, B, C, 1, 1]
        feature = (self.body[0](x) * (d[0] + (1 - d[0]) * spatial)).relu()
        features = [feature]
        for i in range(1, len(self.body)):
            split = d[i] if self.released_formula else d[i - 1]
            from_dense = self.body[i](feature * split) * (d[i] + (1 - d[i]) * spatial)
            from_sparse = self.body[i](feature * (1 - split)) * spatial
            feature = (from_dense + from_sparse).relu()
            features.append(feature)
        return self.collect(torch.cat(features, dim=1))

    def extra_repr(self) -> str:
        """The kind of channel masks, for ``repr``."""
        return f"channel_masks={self.channel_masks!r}"


class ChannelAttention(nn.Module):
    """Multiply every channel by a weight in (0, 1) made of the means of all (SMSR's CA)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C,H,W]."""
        return x * self.conv_du(x.mean((2, 3), keepdim=True))


class SparseMaskModule(MaskedModule):
    """Spatial mask, sparse block, channel attention and a skip (SMM): x + CA(block(x)).

    Args:
        channels: C.
        layers: L, of the block.
        channel_masks: "static", "dynamic" or "none", see ``SparseMaskBlock``.
        released_formula: as in ``SparseMaskBlock``.
        predicts: whether it predicts its spatial mask; if not, each call has to bring one.

    Raises:
        ValueError: as ``SparseMaskBlock``.

    Example:
        >>> smm = SparseMaskModule(channels=16, layers=2).eval()
        >>> y, mask = smm(torch.rand(2, 16, 7, 5))
        >>> y.shape, mask.spatial.shape, mask.dense.shape
        (torch.Size([2, 16, 7, 5]), torch.Size([2, 1, 7, 5]), torch.Size([2, 2, 16]))
    """

    def __init__(
        self,
        channels: int = 64,
        layers: int = 4,
        channel_masks: str = "static",
        released_formula: bool = False,
        predicts: bool = True,
    ) -> None:
        super().__init__()
        self.spa_mask = SpatialMask(channels) if predicts else None
        self.body = SparseMaskBlock(channels, layers, channel_masks, released_formula)
        self.ca = ChannelAttention(channels)

    def masked(self, x: Tensor, mask: SparseMask) -> Tensor:
        """The block under ``mask``, attention and skip."""
        return self.ca(self.body(x, *mask)) + x

    def unmasked(self, x: Tensor) -> Tensor:
        """Every channel at every pixel, without mask predictor: the dense form."""
        return self.ca(self.body.unmasked(x)) + x

    def hard_channels(self, x: Tensor) -> Tensor:
        """The dense channels of the block, [B,L,C] bool."""
        return self.body.hard_channels(x)

    def soft_channels(self, x: Tensor, temperature: float) -> Tensor:
        """A sample of the dense channels of the block, [B,L,C] in [0, 1]."""
        return self.body.soft_channels(x, temperature)
