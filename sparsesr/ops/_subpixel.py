"""A strided transposed convolution as a convolution and a pixel shuffle: the weights.

Output pixel ``s*i + r`` of a transposed convolution sees the taps ``t = r + pad - s*j`` of its
kernel, ``j`` in a small window: a stride-1 convolution with s*s times the channels, followed by a
pixel shuffle. Taps outside the kernel are structural zeros.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def subpixel_reach(kernel: int, stride: int, pad: int) -> tuple[int, int]:
    """Pixels before and after its own that the convolution reads.

    Example:
        >>> subpixel_reach(9, 4, 4), subpixel_reach(4, 2, 1)
        ((1, 1), (1, 1))
    """
    first = (pad - kernel + stride) // stride  # ceil((pad - k + 1) / s)
    return -first, (stride - 1 + pad) // stride


def subpixel_weight(
    weight: Tensor,  # [Cin, Cout, k, k], of the transposed convolution
    stride: int,
    pad: int,
) -> Tensor:
    """The convolution's weight [Cout*s*s, Cin, K, K], its outputs in torch's order."""
    cin, cout, kernel = weight.shape[:3]
    before, after = subpixel_reach(kernel, stride, pad)
    taps = before + after + 1
    # Tap u of the convolution reads input i - before + u with t = r + pad - s*(u - before). In the
    # flipped kernel that is k-1-t; `lead` zeros in front put it at s*u + (s-1-r).
    lead = stride - kernel + pad + stride * before
    extra = stride * taps - kernel - lead
    padded = F.pad(weight.flip(2, 3), (lead, extra, lead, extra))
    phases = padded.reshape(cin, cout, taps, stride, taps, stride).flip(3, 5)
    return phases.permute(1, 3, 5, 0, 2, 4).reshape(cout * stride**2, cin, taps, taps)
