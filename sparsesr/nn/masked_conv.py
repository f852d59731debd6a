"""A drop-in convolution under masks, and what the modules made of it have in common.

SMSR's sparse convolution without its block: for networks whose parts are not four 3x3 and a 1x1,
such as residual or distillation blocks (SMSR's supplement, Table II).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import ops
from .masked_module import MaskedModule, check_mask, gumbel_softmax

CHANNEL_MASKS = ("static", "none")


class MaskedConv2d(nn.Conv2d):
    """A padded convolution whose output channels are dense or live on a spatial mask.

    With d the dense output channels, s = 1 - d, i the input channels that hold values everywhere
    (the others hold none outside the mask), M the spatial mask and n the normalisation, if any::

        y = n(conv(x * i) + conv(x * (1 - i)) * M) * (d + s M)

    so that what sparse inputs hold does not spill beyond the mask. This is SMSR's inference formula
    with a bias and a normalisation in it. Hard masks in eval mode run through ``ops.masked_conv2d``
    with the normalisation folded in; all else is plain torch. Called without masks it is an
    ``nn.Conv2d``, followed by its normalisation.

    Args:
        in_channels, out_channels: as in ``nn.Conv2d``.
        kernel_size: k, odd; the padding is k // 2.
        norm: whether a batch normalisation follows.
        channel_masks: "static" (learnt) or "none" (every channel sparse).

    Raises:
        ValueError: other ``channel_masks``, or an even kernel.

    Example:
        >>> conv = MaskedConv2d(8, 16).eval()
        >>> x, spatial = torch.rand(2, 8, 7, 5), torch.rand(2, 1, 7, 5) > 0.5
        >>> conv(x, spatial, conv.hard_channels()).shape
        torch.Size([2, 16, 7, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        norm: bool = False,
        channel_masks: str = "static",
    ) -> None:
        if channel_masks not in CHANNEL_MASKS:
            raise ValueError(
                f"MaskedConv2d: expected channel_masks in {', '.join(CHANNEL_MASKS)}; "
                f"got {channel_masks!r}"
            )
        if kernel_size % 2 == 0:
            raise ValueError(f"MaskedConv2d: expected an odd kernel_size, got {kernel_size}")
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.norm = nn.BatchNorm2d(out_channels) if norm else None
        static = channel_masks == "static"
        self.ch_mask = nn.Parameter(torch.rand(out_channels, 2)) if static else None

    def forward(
        self,
        input: Tensor,  # [B, Cin, H, W]
        spatial: Tensor | None = None,  # [B, 1, H, W]
        dense: Tensor | None = None,  # [Cout]
        inputs: Tensor | None = None,  # [Cin]
    ) -> Tensor:
        """[B,Cin,H,W] -> [B,Cout,H,W].

        Args:
            input: NCHW or channels_last.
            spatial: M, bool or soft; None for the plain convolution.
            dense: d, bool or soft. Unused without channel masks.
            inputs: i, likewise; None where all channels hold values everywhere.

        Raises:
            TypeError: a mask that is neither bool nor floating; ``dense`` missing; in eval mode,
                a hard ``spatial`` beside a soft ``dense``.
            ValueError: a mask of another size.
        """
        if spatial is None:
            return self._normed(super().forward(input))
        name = type(self).__name__
        check_mask(name, "spatial", spatial, (input.shape[0], 1, *input.shape[2:]))
        if self.ch_mask is None:
            dense = inputs = None  # sparse inputs are zero where nothing is computed anyhow
        else:
            check_mask(name, "dense", dense, (self.out_channels,))
            if inputs is not None:
                check_mask(name, "inputs", inputs, (self.in_channels,))
        if self.training or spatial.dtype != torch.bool:
            return self._soft(input, spatial, dense, inputs)
        for mask in (dense, inputs):
            if mask is not None and mask.dtype != torch.bool:
                raise TypeError(
                    f"{name}: expected dense and inputs bool beside a bool spatial mask, got "
                    f"{str(mask.dtype).removeprefix('torch.')}; threshold them: dense > 0.5"
                )
        return self._hard(input, spatial, dense, inputs)

    def hard_channels(self) -> Tensor:
        """The dense output channels at inference, [Cout] bool."""
        if self.ch_mask is None:
            return torch.zeros(self.out_channels, dtype=torch.bool, device=self.weight.device)
        return self.ch_mask[:, 0] > self.ch_mask[:, 1]

    def soft_channels(self, temperature: float) -> Tensor:
        """A Gumbel-softmax sample of them, [Cout] in [0, 1]."""
        if self.ch_mask is None:
            return torch.zeros_like(self.weight[:, 0, 0, 0])
        return gumbel_softmax(self.ch_mask, temperature, -1)[:, 0]

    def _soft(
        self, x: Tensor, spatial: Tensor, dense: Tensor | None, inputs: Tensor | None
    ) -> Tensor:
        spatial = spatial.to(x.dtype)
        if inputs is None:
            y = self._conv_forward(x, self.weight, self.bias)
        else:
            i = inputs.to(x.dtype)[:, None, None]
            from_sparse = self._conv_forward(x * (1 - i), self.weight, None)
            y = self._conv_forward(x * i, self.weight, self.bias) + from_sparse * spatial
        y = self._normed(y)
        if dense is None:
            return y * spatial
        d = dense.to(x.dtype)[:, None, None]
        return y * (d + (1 - d) * spatial)

    def _hard(
        self, x: Tensor, spatial: Tensor, dense: Tensor | None, inputs: Tensor | None
    ) -> Tensor:
        weight, bias = self._folded(x.dtype)
        y = ops.masked_conv2d(x, weight, bias, spatial)
        if dense is None:
            return y
        # On the mask every input counts; elsewhere dense outputs are made of dense inputs.
        if inputs is None:
            inputs = torch.ones(self.in_channels, dtype=torch.bool, device=x.device)
        if x.is_meta or torch.compiler.is_compiling():  # where no shape may depend on values
            everywhere = self._conv_forward(x * inputs[:, None, None], weight, bias)
            return y.where(spatial | ~dense[:, None, None], everywhere)
        outs, ins = dense.nonzero()[:, 0], inputs.nonzero()[:, 0]
        if len(outs) == 0:
            return y
        everywhere = bias[outs][:, None, None].expand(x.shape[0], -1, *x.shape[2:])
        if len(ins) > 0:
            everywhere = self._conv_forward(x[:, ins], weight[outs][:, ins], bias[outs])
        return y.index_copy(1, outs, y[:, outs].where(spatial, everywhere))

    def _normed(self, y: Tensor) -> Tensor:
        return y if self.norm is None else self.norm(y)

    def _folded(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weight and bias that hold the normalisation of eval mode as well."""
        weight, bias = self.weight, self.bias
        assert bias is not None
        norm = self.norm
        if norm is not None:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
            weight = weight * factor[:, None, None, None]
            bias = (bias - norm.running_mean) * factor + norm.bias
        return weight.to(dtype), bias.to(dtype)


class MaskedConvModule(MaskedModule):
    """A module whose masked layers are ``MaskedConv2d``; ``dense`` [B,1,N] holds their outputs.

    The N channels are those of its layers, one layer after the other.
    """

    def layers(self) -> list[MaskedConv2d]:
        """Its masked convolutions, in the order of ``dense``."""
        return [module for module in self.modules() if isinstance(module, MaskedConv2d)]

    def hard_channels(self, x: Tensor) -> Tensor:
        """The dense channels [B,1,N] bool at inference."""
        dense = torch.cat([layer.hard_channels() for layer in self.layers()])
        return dense.expand(x.shape[0], 1, -1)

    def soft_channels(self, x: Tensor, temperature: float) -> Tensor:
        """A Gumbel-softmax sample of the dense channels [B,1,N] in [0, 1]; one for the batch."""
        dense = torch.cat([layer.soft_channels(temperature) for layer in self.layers()])
        return dense.expand(x.shape[0], 1, -1)

    def split(self, dense: Tensor) -> list[Tensor]:
        """[B,1,N], the same for every image, -> [Cout] of every layer.

        Raises:
            ValueError: channel masks that are not of this module.
        """
        widths = [layer.out_channels for layer in self.layers()]
        check_mask(type(self).__name__, "dense", dense, (dense.shape[0], 1, sum(widths)))
        return list(dense[0, 0].split(widths))
