# ruff: noqa: N803, N806 (compile-time constants are written in capitals)
"""``masked_conv2d`` in Triton: a tile without an active pixel costs one look at the mask.

Within a tile all pixels are computed: rows cannot be regrouped in registers. Sums are float32.
"""

from __future__ import annotations

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


def pack(weight: Tensor) -> Tensor:
    """weight [Cout, Cin, k, k] -> [k*k, Cin, Cout], channels padded. A few launches, no sync."""
    outputs, inputs = weight.shape[:2]
    taps = weight.permute(2, 3, 1, 0).flatten(0, 1)
    return F.pad(taps, (0, padded(outputs) - outputs, 0, padded(inputs) - inputs)).contiguous()


def masked_conv2d(
    x: Tensor,  # [B, Cin, H, W]
    filters: Tensor,  # packed
    bias: Tensor | None,  # [Cout]
    mask: Tensor,  # [B, 1, H, W] uint8, contiguous
    out: Tensor,  # [B, H, W, Cout], written
    side: int,
) -> None:
    """Write the convolution where the mask is not 0, zero elsewhere.

    Allocates a copy of ``x`` where it is not channels_last with whole blocks of channels.
    """
    inputs, outputs = x.shape[1], out.shape[3]
    if out.numel() == 0:
        return
    grid = (tiles("masked_conv2d", x), triton.cdiv(outputs, block_n(outputs)))
    masked_conv2d_fwd_kernel[grid](
        padded_pixels(x),
        filters,
        out if bias is None else bias,
        mask,
        out,
        x.shape[2],
        x.shape[3],
        SIDE=side,
        PITCH=padded(inputs),
        CHANNELS=outputs,
        OUTPUTS=padded(outputs),
        BLOCK_N=block_n(outputs),
        BLOCK_K=block_k(inputs, x.dtype),
        HAS_BIAS=bias is not None,
        **constants(x.dtype),
    )


@triton.jit(do_not_specialize=["height", "width"])
def masked_conv2d_fwd_kernel(
    source,
    filters,
    bias,
    mask,
    out,
    height,
    width,
    SIDE: tl.constexpr,
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
    """One tile and BLOCK_N outputs."""
    STEPS: tl.constexpr = PITCH // BLOCK_K
    image, y, x = tile_of(height, width, TILE_ROWS, TILE_COLS)
    active = active_of(mask, image, y, x, height, width)
    total = tl.zeros([TILE_ROWS * TILE_COLS, BLOCK_N], tl.float32)
    if tl.sum(active.to(tl.int32)) > 0:
        for step in tl.range(0, SIDE * SIDE * STEPS):
            total = add_products(
                total, source, filters, image, y, x, height, width, step, STEPS, PITCH, active,
                SIDE, PITCH, OUTPUTS, BLOCK_N, BLOCK_K, WIDEN,
            )  # fmt: skip
    output = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    if HAS_BIAS:
        offset = tl.load(bias + output, mask=output < CHANNELS, other=0)
        total += offset.to(tl.float32)[None, :]
    total = tl.where(active[:, None], total, 0)
    place = number_of(image, y, x, height, width) * CHANNELS
    write = ((y < height) & (x < width))[:, None] & (output < CHANNELS)[None, :]
    tl.store(out + place[:, None] + output[None, :], total.to(out.dtype.element_ty), mask=write)
