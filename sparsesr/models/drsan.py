"""DRSAN, a light network whose residual paths depend on the input (Park et al.).

Every group looks at its input once, by a global mean, and decides with how much weight each of its
features is added to each later one; a sigmoid of every residual attends to the sum. Five sizes,
scales 2, 3 and 4, and a sparse form of each with the last groups as the Refine-Net.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from ..nn import MaskPredictor, SparseRefine
from ..nn.sparse_refine import DEFAULT_K, check_image
from .blocks import BaseNet, RefineNet, Tail
from .drsan_blocks import DRAG, Body, Upsampler
from .registry import register

SCALES = (2, 3, 4)


@dataclass(frozen=True)
class Size:
    """One of the paper's networks: c channels, K groups, N residual blocks in each.

    ``refine_groups`` is how many of the K the sparse form gives to its Refine-Net (ours: a fifth
    to a quarter, as MGA divides its families).
    """

    channels: int
    groups: int
    blocks: int
    refine_groups: int


SIZES = {
    "32s": Size(32, 4, 4, refine_groups=1),
    "32m": Size(32, 8, 4, refine_groups=2),
    "32l": Size(32, 10, 4, refine_groups=2),
    "48s": Size(48, 4, 3, refine_groups=1),
    "48m": Size(48, 8, 3, refine_groups=2),
}


class DRSANOutput(NamedTuple):
    """What a DRSAN computed (the paper's figures 4 to 6).

    Attributes:
        sr: super-resolved image [B, 3, s*H, s*W], unclamped.
        coefficients: r of every group [B, K, N(N+1)/2], in the order r^1_0, r^2_0, r^2_1, r^3_0,
            ...: ``r^n_j`` is the weight of feature j in the n-th sum.
        attention: sigmoid(h) of every block, one tensor [B, N, c, H, W] in (0, 1) for each group.
    """

    sr: Tensor
    coefficients: Tensor
    attention: tuple[Tensor, ...]


class DRSAN(nn.Module):
    """DRSAN: lr [B,3,H,W] in [0,1] -> [B,3,sH,sW], unclamped.

    Conv3x3 3 -> c; K groups; Conv3x3 and the long skip; upsampler; Conv3x3 c -> 3. No image skip.
    (Park et al., Table I; the last 1x1 of a group takes (N+1)*c channels, as the
    released code and the parameter counts say, where Table I prints N*c.)

    Args:
        scale: 2, 3 or 4.
        channels: c.
        groups: K. blocks: N, residual blocks in a group.
        residual: "dynamic" (the paper), or the ablations of Table V: "last" adds the feature before
            with weight 1 (Res), "all" adds all earlier ones with weight 1 (AllRes).
        attention: True for the factor sigmoid(h) (RSA), False for none, or what Table VII compares
            it with: "channel" (CA), "spatial" (SA) or "pixel" (PA), on every residual.
        concat: the 1x1 over all features of a group; without it the last one is its result (the
            paper does not say; the parameters of Table V agree).
        activation: on the coefficients: "none" (the paper), "tanh" or "sigmoid" (Table VI).

    Raises:
        ValueError: another ``residual``, ``attention`` or ``activation``, or a size below 1.

    Example:
        >>> import torch
        >>> out = DRSAN(scale=2, channels=32, groups=4, blocks=4)(
        ...     torch.rand(1, 3, 5, 7), return_details=True)
        >>> out.sr.shape, out.coefficients.shape, len(out.attention), out.attention[0].shape
        (torch.Size([1, 3, 10, 14]), torch.Size([1, 4, 10]), 4, torch.Size([1, 4, 32, 5, 7]))
    """

    # The global mean inside every group: an output pixel depends on the whole image.
    receptive_field: int | None = None

    def __init__(
        self,
        scale: int,
        channels: int,
        groups: int,
        blocks: int,
        residual: str = "dynamic",
        attention: bool | str = True,
        concat: bool = True,
        activation: str = "none",
    ) -> None:
        super().__init__()
        self.scale = scale
        group = partial(
            DRAG,
            channels,
            blocks,
            residual=residual,
            attention=attention,
            concat=concat,
            activation=activation,
        )
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = Body(channels, groups, group)
        self.upsampler = Upsampler(channels, scale)

    def forward(self, lr: Tensor, return_details: bool = False) -> Tensor | DRSANOutput:
        """Super-resolve; details add the residual coefficients and the sigmoid maps.

        Raises:
            ValueError: details of a net without dynamic coefficients or without attention.
        """
        check_image(lr)
        x = self.head(lr)
        if not return_details:
            return self.upsampler(self.body(x))
        feature, coefficients, attention = self.body.details(x)
        return DRSANOutput(self.upsampler(feature), coefficients, attention)


class DRSANBase(BaseNet):
    """Base-Net of the sparse form: lr [B,3,H,W] -> (coarse [B,3,sH,sW], feature [B,c,H,W])."""

    def __init__(self, scale: int, channels: int, groups: int, blocks: int) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = Body(channels, groups, partial(DRAG, channels, blocks))
        self.upsampler = Upsampler(channels, scale)

    def features(self, lr: Tensor) -> Tensor:  # [B, 3, H, W] -> [B, c, H, W]
        """The feature map alone."""
        return self.body(self.head(lr))


class DRSANRefine(RefineNet):
    """Refine-Net of the sparse form: patches [N,c,p+2,p+2] -> [N,3,sp,sp], or the whole map.

    The global mean inside a group is taken over what the group sees: over each patch with its
    halo, zeros of the image border included, where the dense network takes it over the image. The
    coefficients thus follow the patch's own content.
    """

    def __init__(
        self, scale: int, channels: int, groups: int, blocks: int, full: bool = False
    ) -> None:
        super().__init__()
        self.body = Body(channels, groups, partial(DRAG, channels, blocks))
        self.tail = Tail(channels, full)
        self.upsampler = Upsampler(channels, scale)

    def forward(self, x: Tensor) -> Tensor:
        """Refine a batch of patches (or a map)."""
        return self.upsampler(self.tail(self.body(x)))


def build_drsan(
    size: str,
    scale: int,
    groups: int | None = None,
    residual: str = "dynamic",
    attention: bool | str = True,
    concat: bool = True,
    activation: str = "none",
) -> DRSAN:
    """The dense network; ``groups`` replaces the size's own K (Tables V-VII: 48s with 2)."""
    chosen = SIZES[size]
    return DRSAN(
        scale,
        chosen.channels,
        chosen.groups if groups is None else groups,
        chosen.blocks,
        residual,
        attention,
        concat,
        activation,
    )


def build_mga(
    size: str,
    scale: int,
    patch_size: int = 4,
    mask_channels: int = 2,
    k: int = DEFAULT_K,
    refine_groups: int | None = None,
) -> SparseRefine:
    """The sparse form (ours): the last groups refine the K patches a mask predictor chooses.

    Base-Net: the other groups with their own convolution, long skip and upsampler. Refine-Net:
    ``refine_groups`` groups, convolution, skip, MGA's tail and an upsampler of its own; the global
    mean of its groups is taken over the patch (see ``DRSANRefine``).

    Args:
        patch_size: p in LR pixels.
        mask_channels: 2, or 1.
        k: patches refined per image by default.
        refine_groups: 1 .. K-1; a fifth to a quarter of K by default.

    Raises:
        ValueError: ``refine_groups`` that leaves one of the two without a group.
    """
    chosen = SIZES[size]
    last = chosen.refine_groups if refine_groups is None else refine_groups
    if not 0 < last < chosen.groups:
        raise ValueError(
            f"drsan-{size}-mga: expected refine_groups from 1 to {chosen.groups - 1}, got {last}"
        )
    net = SparseRefine(
        DRSANBase(scale, chosen.channels, chosen.groups - last, chosen.blocks),
        DRSANRefine(scale, chosen.channels, last, chosen.blocks),
        MaskPredictor(chosen.channels, patch_size, mask_channels),
        scale=scale,
        patch_size=patch_size,
        k=k,
    )
    net.receptive_field = None  # type: ignore[assignment]  # the Base-Net's global means
    return net


for _size, _shape in SIZES.items():
    _summary = f"DRSAN, {_shape.channels} channels, {_shape.groups} groups of {_shape.blocks}"
    register(f"drsan-{_size}", SCALES, _summary, partial(build_drsan, _size))
    _sparse = f"{_summary}, the last {_shape.refine_groups} on the K patches a mask chooses"
    register(f"drsan-{_size}-mga", SCALES, _sparse, partial(build_mga, _size))
