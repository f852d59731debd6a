"""What every Base-Net and every Refine-Net of MGA has in common."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ... import engine
from .light_head import over_bilinear


class BaseNet(nn.Module):
    """lr [B,3,H,W] -> (coarse [B,3,sH,sW], feature [B,C,H,W]).

    A family gives ``features`` and sets the attributes.

    Attributes:
        upsampler: feature -> image.
        image_skip: whether the bilinearly enlarged input is added to the coarse image.
        context: LR pixels on each side that a pixel of the feature depends on; None where that
            depends on the size of the image.
    """

    scale: int
    upsampler: nn.Module
    image_skip = False
    context: int | None = None

    def features(self, lr: Tensor) -> Tensor:  # [B, 3, H, W] -> [B, C, H, W]
        """The feature map alone."""
        raise NotImplementedError

    def forward(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Coarse image and feature map."""
        feature = engine.run(self, lr, "features")
        return self.upsample(lr, feature), feature

    def in_two_steps(self) -> bool:
        """Whether ``features`` and ``upsample`` one after the other do what a call would do."""
        plain = type(self).forward is BaseNet.forward and "forward" not in self.__dict__
        return plain and not (self._forward_hooks or self._forward_pre_hooks)

    def upsample(
        self, lr: Tensor, feature: Tensor, covered: engine.Covered | None = None
    ) -> Tensor:
        """The coarse image [B,3,sH,sW]; patches that are ``covered`` may be left undefined."""
        if self.image_skip:  # in one step where it can be
            whole = over_bilinear(self.upsampler, lr, feature, covered)
            if whole is not None:
                return whole
        coarse: Tensor = engine.run(self.upsampler, feature, covered=covered)
        if self.image_skip:
            coarse = coarse + F.interpolate(
                lr, scale_factor=float(self.scale), mode="bilinear", align_corners=False
            )
        return coarse


class HaloTrimming(nn.Module):
    """A part with convolutions that are padded on the whole map and valid on patches.

    On patches the valid convolutions remove the halo. The parameters are the same.

    Attributes:
        trims: names of these convolutions, 3x3.
    """

    trims: tuple[str, ...]

    @property
    def full(self) -> bool:
        """True: whole map, all padded. False: patches. May be set."""
        return self._convolution(self.trims[0]).padding != (0, 0)

    @full.setter
    def full(self, value: bool) -> None:
        for name in self.trims:
            self._convolution(name).padding = (1, 1) if value else (0, 0)

    def _convolution(self, name: str) -> nn.Conv2d:
        conv = self.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        return conv


class Tail(HaloTrimming):
    """The common tail of MGA's Refine-Nets: conv1 3x3, LeakyReLU(0.1), conv2 3x3.

    On patches conv2 is valid and trims the halo (6x6 -> 4x4); on the whole map (``full``) it is
    padded. (MGA, released code and parameter counts.)

    Args:
        channels: nf.
        full: True for the whole map, False for patches.
    """

    trims = ("conv2",)

    def __init__(self, channels: int, full: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.LeakyReLU(0.1)
        self.conv2 = nn.Conv2d(channels, channels, 3)
        self.full = full

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C, H-2, W-2] or [N, C, H, W]
        """Apply the tail."""
        return self.conv2(self.act(self.conv1(x)))


class RefineNet(nn.Module):
    """Patches [N,C,p+2,p+2] -> [N,3,sp,sp], or the whole map where ``full``.

    A family gives ``forward`` and sets the attributes; one of its parts is a ``HaloTrimming``.

    Attributes:
        upsampler: feature -> image.
        context: LR pixels on each side that the input of the upsampler depends on, on the whole
            map; None where that depends on its size.
    """

    upsampler: nn.Module
    context: int | None = None

    @property
    def full(self) -> bool:
        """True: whole map, all padded. False: patches, valid convolutions trim the halo."""
        return self._trimming().full

    @full.setter
    def full(self, value: bool) -> None:
        self._trimming().full = value

    def _trimming(self) -> HaloTrimming:
        return next(m for m in self.modules() if isinstance(m, HaloTrimming))
