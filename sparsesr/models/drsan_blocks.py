"""What DRSAN is made of: dynamic residual attention groups, its body and its upsampler."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..engine import Steps, Value, lowers
from .blocks import ChannelAttention, PixelAttention

RESIDUALS = ("dynamic", "last", "all")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda r: r,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
_HIDDEN = 16


class DynamicResidual(nn.Module):
    """The dynamic residual module: how much of each feature goes into each later sum.

    ``r = mean_hw(Conv1x1(PReLU(Conv1x1(f0))))``, c -> 16 -> N(N+1)/2; the mean comes last.

    Shapes: f0 [B, c, H, W] -> r [B, N(N+1)/2], packed r^1_0, r^2_0, r^2_1, r^3_0, ...
    """

    def __init__(self, channels: int, blocks: int, activation: str = "none") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, _HIDDEN, 1)
        self.act = nn.PReLU(_HIDDEN, init=0.0)
        self.conv2 = nn.Conv2d(_HIDDEN, blocks * (blocks + 1) // 2, 1)
        self.activation = activation

    def forward(self, f0: Tensor) -> Tensor:
        """The coefficients of a batch of feature maps."""
        return ACTIVATIONS[self.activation](self.conv2(self.act(self.conv1(f0))).mean((2, 3)))


class ResidualBlock(nn.Sequential):
    """``h = Conv3x3(PReLU(Conv3x3(PReLU(f))))``; alphas are per channel and start at 0."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.PReLU(channels, init=0.0),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.PReLU(channels, init=0.0),
            nn.Conv2d(channels, channels, 3, padding=1),
        )


class SpatialAttention(nn.Module):
    """``x * sigmoid(Conv7x7([mean_c x, max_c x]))``, one factor per pixel (CBAM, ECCV 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> same
        """Scale the pixels."""
        seen = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * self.conv(seen).sigmoid()


# What Table VII sets in the place of the residuals' own sigmoid. The paper prints parameters alone,
# in thousands: of the usual forms these fit, one module behind each of the six residual blocks.
ATTENTIONS: dict[str, Callable[[int], nn.Module]] = {
    "channel": partial(ChannelAttention, reduction=12),
    "spatial": lambda channels: SpatialAttention(),
    "pixel": PixelAttention,
}


class DRAG(nn.Module):
    """Dynamic residual attention group.

    For n = 1..N: ``h = block_n(f_{n-1})``, ``f_n = (h + sum_{j<n} r^n_j f_j) * sigmoid(h)``; the
    result is a 1x1 convolution over f_0 .. f_N. With an ``attention`` by name it is applied to h
    and ``f_n = h + sum_{j<n} r^n_j f_j``, as RCAN and CBAM do. The options are those of ``DRSAN``.

    Raises:
        ValueError: an unknown option, or fewer than 1 block.
    """

    def __init__(
        self,
        channels: int,
        blocks: int,
        residual: str = "dynamic",
        attention: bool | str = True,
        concat: bool = True,
        activation: str = "none",
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("residual", residual, RESIDUALS),
            ("activation", activation, tuple(ACTIVATIONS)),
            *([("attention", attention, tuple(ATTENTIONS))] if isinstance(attention, str) else []),
        ):
            if value not in known:
                raise ValueError(f"DRSAN: expected {name} in {', '.join(known)}, got {value!r}")
        if blocks < 1:
            raise ValueError(f"DRSAN: expected at least 1 residual block, got {blocks}")
        self.residual = residual
        self.attention = attention
        if residual == "dynamic":
            self.coefficients = DynamicResidual(channels, blocks, activation)
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(blocks))
        if isinstance(attention, str):
            for block in self.blocks:
                block.append(ATTENTIONS[attention](channels))  # type: ignore[operator]
        if concat:
            self.fuse = nn.Conv2d((blocks + 1) * channels, channels, 1)

    def forward(self, f0: Tensor) -> Tensor:  # [B, c, H, W] -> the same
        """Apply the group."""
        return self._apply_blocks(f0, self.coefficients(f0) if self.residual == "dynamic" else None)

    def details(self, f0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Result [B,c,H,W], coefficients [B,N(N+1)/2] and attention maps [B,N,c,H,W].

        Raises:
            ValueError: the group has no dynamic coefficients or no attention.
        """
        if self.residual != "dynamic" or self.attention is not True:
            raise ValueError(
                "DRSAN: details are coefficients and attention maps; this net was made with "
                f"residual={self.residual!r}, attention={self.attention!r}. Drop return_details"
            )
        r, maps = self.coefficients(f0), list[Tensor]()
        return self._apply_blocks(f0, r, maps), r, torch.stack(maps, 1)

    def _apply_blocks(
        self, f0: Tensor, r: Tensor | None, maps: list[Tensor] | None = None
    ) -> Tensor:
        """The sums one after another; their attention maps are appended to ``maps``."""
        features = [f0]
        for block in self.blocks:
            h = block(features[-1])
            feature = h + self._earlier(features, r)
            if self.attention is True:
                gate = torch.sigmoid(h)
                feature = feature * gate
                if maps is not None:
                    maps.append(gate)
            features.append(feature)
        return self.fuse(torch.cat(features, 1)) if hasattr(self, "fuse") else features[-1]

    def _earlier(self, features: list[Tensor], r: Tensor | None) -> Tensor:
        """What is added to the n-th residual, n = len(features)."""
        if self.residual == "last":
            return features[-1]
        if r is None:
            return torch.stack(features).sum(0)
        first = len(features) * (len(features) - 1) // 2
        total = r[:, first, None, None, None] * features[0]
        for j, feature in enumerate(features[1:], first + 1):
            total = total + r[:, j, None, None, None] * feature
        return total


class Body(nn.Module):
    """K groups, Conv3x3, and the skip around them: [B,c,H,W] -> [B,c,H,W].

    Args:
        channels: c.
        groups: K >= 1.
        group: makes one group.
    """

    def __init__(self, channels: int, groups: int, group: Callable[[], DRAG]) -> None:
        super().__init__()
        if groups < 1:
            raise ValueError(f"DRSAN: expected at least 1 group, got {groups}")
        self.groups = nn.Sequential(*(group() for _ in range(groups)))
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the body."""
        return self.conv(self.groups(x)) + x

    def details(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Result, coefficients [B,K,N(N+1)/2], and K attention maps [B,N,c,H,W]."""
        y, coefficients, attention = x, [], []
        for group in self.groups:
            assert isinstance(group, DRAG)
            y, r, maps = group.details(y)
            coefficients.append(r)
            attention.append(maps)
        return self.conv(y) + x, torch.stack(coefficients, 1), tuple(attention)


class DepthToSpace(nn.Module):
    """Channels to pixels in TensorFlow's order: [B, s*s*c, H, W] -> [B, c, sH, sW].

    Channel ``(dy*s + dx)*c + i`` is pixel (dy, dx) of channel i (``nn.PixelShuffle`` has
    ``i*s*s + dy*s + dx``).

    Example:
        >>> DepthToSpace(2)(torch.arange(8.0).reshape(1, 8, 1, 1))[0, 1]
        tensor([[1., 3.],
                [5., 7.]])
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Rearrange."""
        batch, channels, height, width = x.shape
        s = self.scale
        cells = x.reshape(batch, s, s, channels // s**2, height, width)
        pixels = cells.permute(0, 3, 4, 1, 5, 2)  # [B, c, H, dy, W, dx]
        return pixels.reshape(batch, channels // s**2, height * s, width * s)


@lowers(DepthToSpace)
def _shuffled(steps: Steps, module: DepthToSpace, x: Value) -> Value:
    return steps.shuffle(x, module.scale, order="tf")


class Upsampler(nn.Sequential):
    """x2, x3: Conv3x3 c -> c s^2, depth to space; x4: twice x2; then Conv3x3 c -> 3."""

    def __init__(self, channels: int, scale: int) -> None:
        layers: list[nn.Module] = []
        for s in (2, 2) if scale == 4 else (scale,):
            layers += [nn.Conv2d(channels, channels * s**2, 3, padding=1), DepthToSpace(s)]
        super().__init__(*layers, nn.Conv2d(channels, 3, 3, padding=1))
