"""The small networks of pixel routing: from a feature and a place to colours or classes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from ..ops import PixelMLP
from .pixel_places import Places

PLACE = 4  # inputs beside the feature: offset and cell, each in rows and columns


class PixelSampler(nn.Module):
    """Linear layers with ReLU between them on [feature, offset y, offset x, cell y, cell x].

    Called on rows of such inputs it is that MLP. ``mlp`` gives it in the form that
    ``ops.route_mlp`` runs on a whole image: the feature's part of the first layer apart, what
    depends on the place in tables.

    Args:
        channels: C of the feature map. hidden: widths of the hidden layers, none for a single
            linear layer. outputs: 3 for colours, M for classes.

    Example:
        >>> import torch
        >>> PixelSampler(48, [10, 10, 10], 3)(torch.rand(7, 52)).shape
        torch.Size([7, 3])
    """

    def __init__(self, channels: int, hidden: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.channels = channels
        widths = [channels + PLACE, *hidden, outputs]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.imnet = nn.Module()  # the name in released checkpoints
        self.imnet.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:  # [..., C + 4] -> [..., outputs]
        """The MLP itself."""
        return self.layers(x)

    @property
    def layers(self) -> nn.Sequential:
        """Linear, ReLU, ..., Linear."""
        return self.imnet.layers  # type: ignore[return-value]

    @property
    def linears(self) -> list[nn.Linear]:
        """The linear layers."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def mlp(self, places: Places) -> PixelMLP:
        """The same function with its places filled in."""
        first, *later = self.linears
        weight = first.weight
        offset_y, offset_x, cell_y, cell_x = weight[:, self.channels :].unbind(1)
        rows, cols = (axis.offset.to(weight.dtype)[:, None] for axis in places)
        constant = places.rows.cell * cell_y + places.cols.cell * cell_x + first.bias
        return PixelMLP(
            [weight[:, : self.channels], *(layer.weight for layer in later)],
            rows * offset_y + constant,
            cols * offset_x,
            [layer.bias for layer in later],
        )
