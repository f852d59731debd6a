"""``masked_block``: the sparse convolutions of one SMSR module and the 1x1 that collects them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import reference
from ._checks import check_bias, check_map, check_pixel_mask, check_same
from ._layout import empty_like_format
from ._library import define
from ._recompute import define_recomputed_autograd

_OP = "masked_block"


def masked_block(
    x: Tensor,  # [B, C, H, W]
    weights: Sequence[Tensor],  # L of [C, C, 3, 3]
    collect_weight: Tensor,  # [C', L*C, 1, 1]
    collect_bias: Tensor | None,  # [C']
    dense: Tensor,  # [L, C]
    mask: Tensor,  # [B, 1, H, W]
) -> Tensor:
    """L 3x3 convolutions whose channels are dense or live on the mask, and a 1x1 over all of them.

    With ``d_i`` the dense channels of layer i (0/1), ``s_i = 1 - d_i`` and M the mask::

        fea_0 = relu(conv_0(x) * (d_0 + s_0 M))
        fea_i = relu(conv_i(fea_{i-1} d_{i-1}) * (d_i + s_i M) + conv_i(fea_{i-1} s_{i-1}) * M)
        out   = conv1x1(cat(fea_0, ..., fea_{L-1}), collect_weight) + collect_bias

    The 3x3 convolutions have zero padding and no bias; ``out`` has no activation. What sparse
    channels hold does not spill beyond the mask, not even into dense channels. Differentiable in
    ``x``, ``weights``, ``collect_weight`` and ``collect_bias``, twice; masks get no gradient.

    Args:
        x: map [B, C, H, W], float32, bfloat16, float16 or float64; NCHW or channels_last.
        weights: L >= 1 tensors [C, C, 3, 3] in dtype and on the device of ``x``.
        collect_weight: [C', L*C, 1, 1].
        collect_bias: [C'] or None.
        dense: [L, C] bool on any device: the channels of each layer computed at every pixel. None,
            some or all of a layer's channels may be dense.
        mask: pixels where the other channels are computed, [B, 1, H, W] bool on the device of x.

    Returns:
        [B, C', H, W] in the memory format of ``x``.

    Raises:
        TypeError: a wrong type, dtype or device; a mask that is not bool.
        ValueError: a wrong shape; a mask of another size; ``dense`` that does not fit.

    Source: SMSR (Wang et al., CVPR 2021), section 3.3 and figure 3.

    Example:
        >>> x, weights = torch.ones(1, 2, 3, 3), [torch.ones(2, 2, 3, 3)]
        >>> dense = torch.tensor([[True, False]])      # channel 0 everywhere, channel 1 on the mask
        >>> mask = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
        >>> masked_block(x, weights, torch.ones(1, 2, 1, 1), None, dense, mask)
        tensor([[[[ 8., 12.,  8.],
                  [12., 18., 12.],
                  [ 8., 12.,  8.]]]])
    """
    check_map(_OP, "x", x)
    weights = list(weights)
    channels = x.shape[1]
    if not weights:
        raise ValueError(f"{_OP}: expected at least one layer in weights, got none")
    for i, weight in enumerate(weights):
        _check_weight(f"weights[{i}]", weight, "[C,C,3,3]", (channels, channels, 3, 3), x)
    _check_collect(collect_weight, collect_bias, len(weights), x)
    _check_dense(dense, len(weights), channels)
    check_pixel_mask(_OP, mask, x)
    return torch.ops.sparsesr.masked_block.default(
        x, weights, collect_weight, collect_bias, dense, mask
    )


def _check_weight(
    name: str, weight: Tensor, layout: str, shape: tuple[int, ...], x: Tensor
) -> None:
    check_map(_OP, name, weight, layout)
    check_same(_OP, name, weight, "x", x)
    if tuple(weight.shape) != shape:
        raise ValueError(
            f"{_OP}: expected {name} {list(shape)} for x of {x.shape[1]} channels, "
            f"got {list(weight.shape)}"
        )


def _check_collect(weight: Tensor, bias: Tensor | None, layers: int, x: Tensor) -> None:
    check_map(_OP, "collect_weight", weight, "[C',L*C,1,1]")
    shape = (weight.shape[0], layers * x.shape[1], 1, 1)
    _check_weight("collect_weight", weight, "[C',L*C,1,1]", shape, x)
    check_bias(_OP, "collect_bias", bias, weight.shape[0], x)


def _check_dense(dense: object, layers: int, channels: int) -> None:
    if not isinstance(dense, Tensor) or dense.dtype != torch.bool:
        got = dense.dtype if isinstance(dense, Tensor) else type(dense).__name__
        raise TypeError(
            f"{_OP}: expected dense [L,C] bool, got {str(got).removeprefix('torch.')}; "
            "True is a channel computed at every pixel"
        )
    if tuple(dense.shape) != (layers, channels):
        raise ValueError(
            f"{_OP}: expected dense [{layers},{channels}] (one row per layer of weights, one "
            f"column per channel of x), got {list(dense.shape)}"
        )


def _fake(
    x: Tensor,
    weights: list[Tensor],
    collect_weight: Tensor,
    collect_bias: Tensor | None,
    dense: Tensor,
    mask: Tensor,
) -> Tensor:
    return empty_like_format((x.shape[0], collect_weight.shape[0], x.shape[2], x.shape[3]), x)


define(
    "masked_block(Tensor x, Tensor[] weights, Tensor collect_weight, Tensor? collect_bias,"
    " Tensor dense, Tensor mask) -> Tensor",
    _fake,
)
define_recomputed_autograd(_OP, reference.masked_block)
