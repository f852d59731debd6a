"""Upsamplers that end in a pixel shuffle.

Every upsampler has ``reach``: LR pixels on each side that a pixel of its output depends on.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


class PixelShuffleUpsampler(nn.Sequential):
    """3x3 convolution C -> 3 s^2, pixel shuffle: [N,C,H,W] -> [N,3,sH,sW].

    RFDN's upsampler, and the light coarse head of the -light forms.
    """

    reach = 1

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__(
            nn.Conv2d(channels, 3 * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )


def shuffle_stages(
    channels: int, scale: int, act: Callable[[], nn.Module] | None = None
) -> nn.Sequential:
    """3x3 convolution C -> C s^2, pixel shuffle, activation; at x4 two such stages of x2.

    Args:
        channels: C, of input and output.
        scale: 2, 3 or 4.
        act: makes the activation after each pixel shuffle; None for none.
    """
    layers: list[nn.Module] = []
    for factor in (2, 2) if scale == 4 else (scale,):
        layers += [
            nn.Conv2d(channels, channels * factor**2, 3, padding=1),
            nn.PixelShuffle(factor),
        ]
        if act is not None:
            layers.append(act())
    return nn.Sequential(*layers)
