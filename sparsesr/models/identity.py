"""Identity initialisation: an untrained network that already is bilinear upscaling.

FSRCNN has no image skip, so from a random start it first spends tens of thousands of steps on
learning to pass colours through. Here the first three channels of every layer start as a copy of
the image (a one-tap kernel) and the upsampler as the bilinear kernel, as far as its nine taps
reach (at x4 one short of it); the other channels keep their random start. (The idea of Dirac and
identity initialisation of residual networks, applied to a network without skips; ours.)
"""

from __future__ import annotations

import torch
from torch import nn

from .blocks import PixelShuffleUpsampler
from .fsrcnn import FSRCNNBase

_COLOURS = 3


def identity_init_(net: nn.Module, upsampler_std: float = 1e-3) -> nn.Module:
    """Start the Base- and Refine-Net of ``net`` as bilinear interpolation, in place.

    Every ``nn.Conv2d`` of both passes channels 0-2 through; every transposed convolution holds
    the bilinear kernel for them and noise of standard deviation ``upsampler_std`` elsewhere. The
    light head of FSRCNN, which has the bilinear image beside it, holds noise alone. A mask
    predictor is left alone. Activations that are the identity on [0, 1] are assumed.

    Args:
        net: a network with ``base`` and, where present, ``refine``, whose layers have at least
            three channels and end in a transposed convolution (FSRCNN, its -light forms too).
        upsampler_std: noise of the other upsampler weights.

    Returns:
        ``net``.

    Raises:
        ValueError: a part without a transposed convolution.

    Example:
        >>> import sparsesr
        >>> net = identity_init_(sparsesr.create_model("fsrcnn-dnet", scale=2))
        >>> grey = net(torch.full((1, 3, 9, 9), 0.5))[..., 8:10, 8:10]
        >>> bool((grey - 0.5).abs().max() < 0.05)
        True
    """
    parts = [getattr(net, name) for name in ("base", "refine") if hasattr(net, name)]
    with torch.no_grad():
        for part in parts:
            _identity_(part, upsampler_std)
    return net


def _identity_(part: nn.Module, std: float) -> None:
    """Start one part, a Base- or a Refine-Net."""
    light = isinstance(part, FSRCNNBase) and isinstance(part.upsampler, PixelShuffleUpsampler)
    head = part.upsampler[0] if light else None  # type: ignore[index]
    layers = [m for m in part.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    if not light and not any(isinstance(layer, nn.ConvTranspose2d) for layer in layers):
        raise ValueError(
            "identity_init_: expected a network that ends in a transposed convolution, "
            f"found none in {type(part).__name__}"
        )
    for layer in layers:
        if layer is head:
            layer.weight.normal_(0.0, std)
            layer.bias.zero_()
        elif isinstance(layer, nn.ConvTranspose2d):
            _bilinear_(layer, std)
        else:
            _pass_through_(layer)


def _pass_through_(conv: nn.Conv2d) -> None:
    """Output channels 0-2 copy input channels 0-2."""
    row, col = (side // 2 for side in conv.kernel_size)
    conv.weight[:_COLOURS].zero_()
    for channel in range(_COLOURS):
        conv.weight[channel, channel, row, col] = 1.0
    if conv.bias is not None:
        conv.bias[:_COLOURS].zero_()


def _bilinear_(up: nn.ConvTranspose2d, std: float) -> None:
    """Input channels 0-2 are interpolated to the three outputs, the others add small noise."""
    stride, padding = up.stride[0], int(up.padding[0])
    tap = torch.arange(up.kernel_size[0], dtype=up.weight.dtype)
    # Tap t of LR pixel i lands on HR pixel s*i + t - padding; the pixel's centre is s*i + (s-1)/2.
    distance = (tap - padding - (stride - 1) / 2).abs()
    kernel = (1 - distance / stride).clamp(min=0)
    up.weight.normal_(0.0, std)
    up.weight[:_COLOURS].zero_()
    for channel in range(_COLOURS):
        up.weight[channel, channel] = kernel[:, None] * kernel[None, :]
    if up.bias is not None:
        up.bias.zero_()
