"""Masked convolutions and pixel routing of the ``cpu`` backend: packed weights, float32 sums."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ._classes import per_class
from ._layout import memory_format_of, with_adjacent_channels
from ._module import _loaded, _view
from ._packing import (
    Cache,
    PackedMLP,
    PackingRule,
    pack_block,
    pack_conv,
    pack_mlp,
)

_COMPUTED = (torch.float32, torch.bfloat16, torch.float16)
DTYPES = {"masked_conv2d": _COMPUTED, "masked_block": _COMPUTED, "route_mlp": _COMPUTED}

_packed = Cache()


def masked_conv2d(
    x: Tensor,  # [B, Cin, H, W]
    weight: Tensor,  # [Cout, Cin, k, k]
    bias: Tensor | None,  # [Cout]
    mask: Tensor,  # [B, 1, H, W] bool
) -> Tensor:
    """The convolution where the mask is True, zero elsewhere; sums are float32."""
    op, native = "masked_conv2d", _loaded()
    pixels, rule = _pixels(x)
    packed = _packed.get((op, rule), [weight], lambda: pack_conv(weight, rule))
    shape = (x.shape[0], weight.shape[0], x.shape[2], x.shape[3])
    out = torch.empty(shape, memory_format=torch.channels_last).zero_()
    offsets = _bias(bias)
    if out.numel() > 0:
        native.cpu.masked_conv2d(
            _view(op, "x", pixels),
            _view(op, "weights", packed),
            weight.shape[-1],
            _view(op, "bias", offsets),
            _view(op, "mask", mask),
            _view(op, "out", out),
            torch.get_num_threads(),
        )
    return out.to(x.dtype, memory_format=memory_format_of(x))


def masked_block(
    x: Tensor,  # [B, C, H, W]
    weights: Sequence[Tensor],  # L of [C, C, 3, 3]
    collect_weight: Tensor,  # [C', L*C, 1, 1]
    collect_bias: Tensor | None,  # [C']
    dense: Tensor,  # [L, C] bool, any device
    mask: Tensor,  # [B, 1, H, W] bool
) -> Tensor:
    """The features of all layers, collected; sums are float32."""
    op, native = "masked_block", _loaded()
    pixels, rule = _pixels(x)
    tensors = [*weights, collect_weight]
    dense = dense.cpu()
    packed = _packed.get(
        (op, rule, dense.numpy().tobytes()),
        tensors,
        lambda: pack_block(weights, collect_weight, dense, rule),
    )
    batch, channels, height, width = x.shape
    shape = (batch, collect_weight.shape[0], height, width)
    out = torch.empty(shape, memory_format=torch.channels_last)
    pitch = (channels + -channels % rule.lanes) // rule.depth
    maps = [torch.empty(height * width * pitch) for _ in range(2)]
    offsets = _bias(collect_bias)
    if out.numel() > 0:
        native.cpu.masked_block(
            _view(op, "x", pixels),
            _view(op, "weights", packed.weights),
            packed.dense,
            _view(op, "bias", offsets),
            _view(op, "mask", mask),
            _view(op, "features", maps[0]),
            _view(op, "other", maps[1]),
            _view(op, "out", out),
            torch.get_num_threads(),
        )
    return out.to(x.dtype, memory_format=memory_format_of(x))


def route_mlp(
    feature: Tensor,  # [B, C, h, w]
    class_map: Tensor | None,  # [B, H, W] uint8
    weights: Sequence[Tensor],  # of class 0, then of class 1, ...: [N1, C], [N2, N1], ..., [O, N]
    row_bias: Sequence[Tensor],  # M of [Th, N1]
    col_bias: Sequence[Tensor],  # M of [Tw, N1]
    biases: Sequence[Tensor],  # of class 0, then of class 1, ...: [N2], ..., [O]
    layers: Sequence[int],  # M
    rows: Tensor,  # [H] float32
    cols: Tensor,  # [W] float32
    image: Tensor | None,  # [B, O, h, w]
) -> Tensor:
    """Every HR pixel through the MLP of its class; sums are float32."""
    op, native = "route_mlp", _loaded()
    rule = PackingRule(*native.cpu.packing_rule(False))
    tables = [[_whole_vectors(t, rule.lanes) for t in side] for side in (row_bias, col_bias)]
    packed = [_packed_mlp(own, later, rule) for own, later in per_class(weights, biases, layers)]
    classes = []
    for own, row, col in zip(packed, *tables, strict=True):
        parts = {"first": own.first, "row_bias": row, "col_bias": col, "later": own.later}
        classes.append((*(_view(op, name, part) for name, part in parts.items()), own.widths))
    pixels = with_adjacent_channels(feature.float())
    residual = None if image is None else image.float()
    class_map = None if class_map is None else class_map.contiguous()
    rows, cols = rows.contiguous(), cols.contiguous()
    shape = (feature.shape[0], weights[-1].shape[0], rows.numel(), cols.numel())
    out = torch.empty(shape, memory_format=memory_format_of(feature))
    native.cpu.route_mlp(
        _view(op, "feature", pixels),
        None if class_map is None else _view(op, "class_map", class_map),
        classes,
        _view(op, "rows", rows),
        _view(op, "cols", cols),
        None if residual is None else _view(op, "image", residual),
        _view(op, "out", out),
        torch.get_num_threads(),
    )
    return out.to(feature.dtype)


def average_neighbors(
    image: Tensor,  # [B, C, H, W]
    class_map: Tensor,  # [B, H, W] uint8
    min_heavy: int,
    first_heavy: int,
) -> Tensor:
    """The image [B, C, H, W] with light pixels beside heavy ones averaged over their 3x3."""
    op, class_map = "average_neighbors", class_map.contiguous()
    out = image.clone(memory_format=memory_format_of(image))
    _loaded().cpu.average_neighbors(
        _view(op, "image", image),
        _view(op, "class_map", class_map),
        min_heavy,
        first_heavy,
        _view(op, "out", out),
        torch.get_num_threads(),
    )
    return out


def _packed_mlp(
    weights: Sequence[Tensor], biases: Sequence[Tensor], rule: PackingRule
) -> PackedMLP:
    return _packed.get(
        ("route_mlp", rule), [*weights, *biases], lambda: pack_mlp(weights, biases, rule)
    )


def _whole_vectors(table: Tensor, lanes: int) -> Tensor:
    """table [T, N] in float32, N rounded up to whole vectors."""
    return F.pad(table.detach().float(), (0, -table.shape[1] % lanes)).contiguous()


def _pixels(x: Tensor) -> tuple[Tensor, PackingRule]:
    """``x`` as the masked kernels read it, and how they want their weights then.

    Channels lie side by side; bfloat16 stays where the CPU multiplies it and the channels make
    pairs, the other 16-bit maps become float32. ``x`` itself where it is so already.
    """
    native = _loaded()
    pairs = x.dtype == torch.bfloat16 and x.shape[1] % 2 == 0
    rule = PackingRule(*native.cpu.packing_rule(pairs))
    x = with_adjacent_channels(x if rule.depth == 2 else x.float())
    if rule.depth == 2 and _splits_pairs(x):
        return x.clone(memory_format=torch.channels_last), rule
    return x, rule


def _splits_pairs(x: Tensor) -> bool:
    """Whether some pair of adjacent channels does not lie in one aligned unit of 32 bits."""
    return any(x.stride(d) % 2 for d in (0, 2, 3)) or x.storage_offset() % 2 != 0


def _bias(bias: Tensor | None) -> Tensor:
    return torch.empty(0) if bias is None else bias.detach().float().contiguous()
