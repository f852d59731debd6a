"""``masked_conv2d``: a convolution computed at some pixels only."""

from __future__ import annotations

import torch
from torch import Tensor

from . import reference
from ._checks import check_bias, check_map, check_pixel_mask, check_same
from ._layout import empty_like_format
from ._library import define
from ._recompute import define_recomputed_autograd


def masked_conv2d(
    x: Tensor,  # [B, Cin, H, W]
    weight: Tensor,  # [Cout, Cin, k, k]
    bias: Tensor | None,  # [Cout]
    mask: Tensor,  # [B, 1, H, W]
) -> Tensor:
    """``conv2d(x, weight, bias, padding=k // 2)`` where the mask is True, zero elsewhere.

    Differentiable in ``x``, ``weight`` and ``bias``, twice; the mask receives no gradient.

    Args:
        x: map [B, Cin, H, W], float32, bfloat16, float16 or float64; NCHW or channels_last. All
            its pixels are read, masked or not.
        weight: [Cout, Cin, k, k] in dtype and on the device of ``x``; k odd.
        bias: [Cout] or None; added where the mask is True.
        mask: pixels to compute, [B, 1, H, W] bool on the device of ``x``.

    Returns:
        [B, Cout, H, W] in the memory format of ``x``.

    Raises:
        TypeError: a wrong type, dtype or device; a mask that is not bool.
        ValueError: a wrong shape, an even kernel, a mask of another size.

    Source: SMSR (Wang et al., CVPR 2021), section 3.3, sparse mask convolution.

    Example:
        >>> x, mask = torch.ones(1, 1, 2, 3), torch.tensor([[[[True, False, True]] * 2]])
        >>> masked_conv2d(x, torch.ones(1, 1, 3, 3), None, mask)
        tensor([[[[4., 0., 4.],
                  [4., 0., 4.]]]])
    """
    op = "masked_conv2d"
    check_map(op, "x", x)
    check_map(op, "weight", weight, "[Cout,Cin,k,k]")
    check_same(op, "weight", weight, "x", x)
    side = weight.shape[-1]
    if weight.shape[1] != x.shape[1] or weight.shape[2] != side or side % 2 == 0:
        raise ValueError(
            f"{op}: expected weight [Cout,{x.shape[1]},k,k] with k odd for x of {x.shape[1]} "
            f"channels, got {list(weight.shape)}"
        )
    check_bias(op, "bias", bias, weight.shape[0], x)
    check_pixel_mask(op, mask, x)
    return torch.ops.sparsesr.masked_conv2d.default(x, weight, bias, mask)


def _fake(x: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor) -> Tensor:
    return empty_like_format((x.shape[0], weight.shape[0], x.shape[2], x.shape[3]), x)


define(
    "masked_conv2d(Tensor x, Tensor weight, Tensor? bias, Tensor mask) -> Tensor",
    _fake,
)
define_recomputed_autograd("masked_conv2d", reference.masked_conv2d)
