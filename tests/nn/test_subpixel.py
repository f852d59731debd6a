"""The sub-pixel form of a transposed convolution is that convolution."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparsesr.nn import SubPixelConvTranspose2d

# kernel, stride, padding, output_padding
SHAPES = [
    (9, 2, 4, 1),
    (9, 3, 4, 2),
    (9, 4, 4, 3),
    (9, 4, 3, 1),
    (4, 2, 1, 0),
    (2, 2, 0, 0),
    (3, 3, 0, 0),
    (3, 2, 1, 1),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "extra"), SHAPES)
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 3)])
def test_equals_conv_transpose(
    kernel: int, stride: int, padding: int, extra: int, size: tuple[int, int]
) -> None:
    up = SubPixelConvTranspose2d(5, 3, kernel, stride, padding, extra).double()
    x = torch.randn(2, 5, *size, dtype=torch.float64, requires_grad=True)
    expected = nn.ConvTranspose2d.forward(up, x)
    out = up(x)
    assert out.shape == expected.shape == (2, 3, stride * size[0], stride * size[1])
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    grad = torch.randn_like(out)
    inputs = (x, up.weight, up.bias)
    for have, want in zip(
        torch.autograd.grad(out, inputs, grad),
        torch.autograd.grad(expected, inputs, grad),
        strict=True,
    ):
        torch.testing.assert_close(have, want, rtol=1e-12, atol=1e-12)


def test_keys_are_those_of_conv_transpose() -> None:
    up = SubPixelConvTranspose2d(5, 3, 9, 4, 4, 3)
    plain = nn.ConvTranspose2d(5, 3, 9, 4, 4, 3)
    plain.load_state_dict(up.state_dict(), strict=True)


def test_other_output_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected kernel_size - 2\*padding"):
        SubPixelConvTranspose2d(5, 3, 9, stride=4, padding=4, output_padding=0)
    up = SubPixelConvTranspose2d(1, 1, 2, 2)
    with pytest.raises(ValueError, match="output_size"):
        up(torch.zeros(1, 1, 4, 4), output_size=[7, 8])
