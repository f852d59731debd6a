"""Blocks shared by the model families."""

from __future__ import annotations

from torch import Tensor, nn


class Tail(nn.Module):
    """The common tail of MGA's Refine-Nets: conv1 3x3, LeakyReLU(0.1), conv2 3x3.

    On patches conv2 is valid and trims the halo (6x6 -> 4x4); on the whole map (``full``) it is
    padded. (MGA, released code and parameter counts.)

    Args:
        channels: nf.
        full: True for the whole map, False for patches.
    """

    def __init__(self, channels: int, full: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.LeakyReLU(0.1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1 if full else 0)

    @property
    def full(self) -> bool:
        """Whether conv2 is padded; may be set, the parameters are the same."""
        return self.conv2.padding != (0, 0)

    @full.setter
    def full(self, value: bool) -> None:
        self.conv2.padding = (1, 1) if value else (0, 0)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C, H-2, W-2] or [N, C, H, W]
        """Apply the tail."""
        return self.conv2(self.act(self.conv1(x)))
