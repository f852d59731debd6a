"""A strided transposed convolution computed as an exact sub-pixel convolution."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..engine import Steps, Value, lowers
from ..ops._subpixel import subpixel_reach, subpixel_weight


class SubPixelConvTranspose2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` with the same parameters and result, computed at the input resolution.

    Output pixel ``s*i + r`` of a transposed convolution sees the taps ``t = r + pad - s*j`` of its
    kernel, ``j`` in a small window: a stride-1 convolution with s*s times the channels, followed
    by a pixel shuffle. Taps outside the kernel are structural zeros. Torch runs the 9x9 stride-4
    layer of FSRCNN 2-3 times faster in this form (spec/KERNELS 2.1).

    The output must be exactly s times the input, as in super-resolution upsamplers.

    Shapes: [N, Cin, H, W] -> [N, Cout, s*H, s*W]. Keys of the state dict: those of
    ``nn.ConvTranspose2d``.

    Raises:
        ValueError: at construction, for groups, dilation, unequal strides, or padding and
            output_padding that do not give s times the input.

    Example:
        >>> import torch
        >>> up = SubPixelConvTranspose2d(8, 3, 9, stride=4, padding=4, output_padding=3)
        >>> x = torch.randn(1, 8, 5, 6)
        >>> torch.allclose(up(x), nn.ConvTranspose2d.forward(up, x), atol=1e-5)
        True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        padding: int = 0,
        output_padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, output_padding, bias=bias
        )
        if kernel_size - 2 * padding + output_padding != stride:
            raise ValueError(
                "SubPixelConvTranspose2d: expected kernel_size - 2*padding + output_padding == "
                f"stride, got {kernel_size} - 2*{padding} + {output_padding} != {stride}"
            )

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Upsample ``x``; ``output_size`` is accepted for compatibility and must be s times it."""
        stride = self.stride[0]
        if output_size is not None and list(output_size)[-2:] != [
            stride * x.shape[-2],
            stride * x.shape[-1],
        ]:
            raise ValueError(f"SubPixelConvTranspose2d: output_size {output_size} is not s * input")
        weight, bias = self.subpixel_parameters()
        before, after = subpixel_reach(self.kernel_size[0], stride, int(self.padding[0]))
        if before != after:
            x = F.pad(x, (before, after, before, after))
            before = 0
        return F.pixel_shuffle(F.conv2d(x, weight, bias, padding=before), stride)

    def subpixel_parameters(self) -> tuple[Tensor, Tensor | None]:
        """Weight [Cout*s*s, Cin, K, K] and bias [Cout*s*s] of the equivalent convolution."""
        weight = subpixel_weight(self.weight, self.stride[0], int(self.padding[0]))
        bias = None if self.bias is None else self.bias.repeat_interleave(self.stride[0] ** 2)
        return weight, bias


@lowers(SubPixelConvTranspose2d)
def _lowered(steps: Steps, module: SubPixelConvTranspose2d, x: Value) -> Value:
    return steps.deconv(x, module.weight, module.bias, module.stride[0], int(module.padding[0]))
