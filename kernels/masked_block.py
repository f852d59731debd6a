# ruff: noqa: N803, N806 (compile-time constants are written in capitals)
"""``masked_block`` in Triton: one launch per layer, one for the 1x1 over the features of all.

Features lie with the dense channels of their layer in front, and the filters are permuted to match.
A tile without active pixels computes dense outputs from dense inputs only. In every other tile one
product serves all rows: those of inactive pixels load zeros in place of sparse inputs, and their
sums for sparse outputs are dropped. Sparse channels are stored as zeros where a pixel is not
active, which is what its active neighbours must read. Sums are float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from ._masked_tiles import (
    active_of,
    add_products,
    block_k,
    block_n,
    constants,
    number_of,
    padded,
    padded_pixels,
    tile_of,
    tiles,
)


def pack(weights: Sequence[Tensor], collect_weight: Tensor, dense: Tensor) -> Tensor:
    """The filters as the kernels read them, flat: [L, 9, P, P], then [L, P, padded C'].

    Args:
        weights: L of [C, C, 3, 3].
        collect_weight: [C', L*C, 1, 1].
        dense: [L, C] bool on their device. Some twenty launches, no sync.
    """
    layers, channels = dense.shape
    outputs, pitch = collect_weight.shape[0], padded(channels)
    order = torch.argsort(dense.logical_not().to(torch.uint8), dim=1, stable=True)
    first = torch.arange(channels, device=dense.device)[None]  # of the block's input
    inputs = torch.cat([first, order[:-1]])
    layer = torch.arange(layers, device=dense.device)
    taps = torch.arange(9, device=dense.device)
    filters = torch.stack(list(weights)).flatten(3)  # [L, O, I, 9]
    filters = filters[
        layer[:, None, None, None],
        order[:, None, None, :],
        inputs[:, None, :, None],
        taps[None, :, None, None],
    ]
    more = pitch - channels
    filters = F.pad(filters, (0, more, 0, more))
    shares = collect_weight.reshape(outputs, layers, channels).permute(1, 2, 0)  # [L, C, C']
    shares = F.pad(shares[layer[:, None], order], (0, padded(outputs) - outputs, 0, more))
    return torch.cat([filters.flatten(), shares.flatten()])


def features_shape(layers: int, x: Tensor) -> tuple[int, int, int, int, int]:
    """The workspace of ``masked_block``: features of all layers, [L, B, H, W, P]."""
    return (layers, x.shape[0], x.shape[2], x.shape[3], padded(x.shape[1]))


def masked_block(
    x: Tensor,  # [B, C, H, W]
    packed: Tensor,
    dense: Tensor,  # [L, C] uint8, contiguous
    bias: Tensor | None,  # [C']
    mask: Tensor,  # [B, 1, H, W] uint8, contiguous
    features: Tensor,  # [L, B, H, W, P], written
    out: Tensor,  # [B, H, W, C'], written
) -> None:
    """Write the collected features of all layers.

    Allocates a copy of ``x`` where it is not channels_last with whole blocks of channels.
    """
    if out.numel() == 0:
        return
    channels, outputs, pitch = x.shape[1], out.shape[3], features.shape[4]
    layers, size = features.shape[0], features.shape[0] * 9 * pitch * pitch
    filters = packed[:size].view(layers, 9, pitch, pitch)
    count, before = tiles("masked_block", x), padded_pixels(x)
    sizes = {
        "LAYERS": layers,
        "INPUTS": channels,
        "BLOCK_C": triton.next_power_of_2(channels),
        "PITCH": pitch,
        "BLOCK_K": block_k(channels, x.dtype),
        **constants(x.dtype),
    }
    for layer in range(layers):
        masked_block_layer_kernel[(count, pitch // block_n(channels))](
            before,
            filters[layer],
            dense[max(layer - 1, 0)],
            dense[layer],
            mask,
            features[layer],
            x.shape[2],
            x.shape[3],
            FIRST=layer == 0,
            BLOCK_N=block_n(channels),
            **{k: v for k, v in sizes.items() if k != "LAYERS"},
        )
        before = features[layer]
    masked_block_collect_kernel[(count, triton.cdiv(outputs, block_n(outputs)))](
        features,
        packed[size:],
        dense,
        out if bias is None else bias,
        mask,
        out,
        x.shape[0],
        x.shape[2],
        x.shape[3],
        CHANNELS=outputs,
        OUTPUTS=padded(outputs),
        BLOCK_N=block_n(outputs),
        HAS_BIAS=bias is not None,
        **sizes,
    )


@triton.jit
def count_dense(dense, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """How many channels of a layer are dense."""
    channel = tl.arange(0, BLOCK)
    return tl.sum((tl.load(dense + channel, mask=channel < CHANNELS, other=0) != 0).to(tl.int32))


@triton.jit(do_not_specialize=["height", "width"])
def masked_block_layer_kernel(
    source,
    filters,
    dense_before,
    dense,
    mask,
    features,
    height,
    width,
    FIRST: tl.constexpr,
    INPUTS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    PITCH: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """One tile and BLOCK_N features of one layer."""
    STEPS: tl.constexpr = PITCH // BLOCK_K
    image, y, x = tile_of(height, width, TILE_ROWS, TILE_COLS)
    active = active_of(mask, image, y, x, height, width)
    dense_outputs = count_dense(dense, INPUTS, BLOCK_C)
    if FIRST:
        dense_inputs = tl.full([], INPUTS, tl.int32)
    else:
        dense_inputs = count_dense(dense_before, INPUTS, BLOCK_C)
    total = tl.zeros([TILE_ROWS * TILE_COLS, BLOCK_N], tl.float32)
    if tl.sum(active.to(tl.int32)) > 0:
        for step in tl.range(0, 9 * STEPS):
            total = add_products(
                total, source, filters, image, y, x, height, width, step, STEPS, dense_inputs,
                active, 3, PITCH, PITCH, BLOCK_N, BLOCK_K, WIDEN,
            )  # fmt: skip
    else:
        steps = (dense_inputs + BLOCK_K - 1) // BLOCK_K
        last = tl.where(tl.program_id(1) * BLOCK_N < dense_outputs, 9 * steps, 0)
        step = tl.full([], 0, tl.int32)
        while step < last:
            total = add_products(
                total, source, filters, image, y, x, height, width, step, steps, dense_inputs,
                active, 3, PITCH, PITCH, BLOCK_N, BLOCK_K, WIDEN,
            )  # fmt: skip
            step += 1
    output = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    keeps = active[:, None] | (output < dense_outputs)[None, :]
    # NaN stays NaN, as in torch's relu.
    total = tl.where(keeps & ~(total < 0), total, 0)
    place = number_of(image, y, x, height, width) * PITCH
    tl.store(
        features + place[:, None] + output[None, :],
        total.to(features.dtype.element_ty),
        mask=((y < height) & (x < width))[:, None] & (output < PITCH)[None, :],
    )


@triton.jit(do_not_specialize=["batch", "height", "width"])
def masked_block_collect_kernel(
    features,
    shares,
    dense,
    bias,
    mask,
    out,
    batch,
    height,
    width,
    LAYERS: tl.constexpr,
    INPUTS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    PITCH: tl.constexpr,
    CHANNELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLS: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """One tile and BLOCK_N outputs: the shares of all layers."""
    STEPS: tl.constexpr = PITCH // BLOCK_K
    image, y, x = tile_of(height, width, TILE_ROWS, TILE_COLS)
    active = active_of(mask, image, y, x, height, width)
    some = tl.sum(active.to(tl.int32)) > 0
    total = tl.zeros([TILE_ROWS * TILE_COLS, BLOCK_N], tl.float32)
    pixels = batch.to(tl.int64) * height * width * PITCH
    for layer in tl.static_range(LAYERS):
        dense_inputs = count_dense(dense + layer * INPUTS, INPUTS, BLOCK_C)
        steps = tl.where(some, STEPS, (dense_inputs + BLOCK_K - 1) // BLOCK_K)
        step = tl.full([], 0, tl.int32)
        while step < steps:
            total = add_products(
                total, features + layer * pixels, shares + layer * PITCH * OUTPUTS, image, y, x,
                height, width, step, steps, dense_inputs, active, 1, PITCH, OUTPUTS, BLOCK_N,
                BLOCK_K, WIDEN,
            )  # fmt: skip
            step += 1
    output = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    if HAS_BIAS:
        offset = tl.load(bias + output, mask=output < CHANNELS, other=0)
        total += offset.to(tl.float32)[None, :]
    place = number_of(image, y, x, height, width) * CHANNELS
    write = ((y < height) & (x < width))[:, None] & (output < CHANNELS)[None, :]
    tl.store(out + place[:, None] + output[None, :], total.to(out.dtype.element_ty), mask=write)
