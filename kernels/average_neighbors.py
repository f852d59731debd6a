# ruff: noqa: N803, N806 (compile-time constants are written in capitals)
"""``average_neighbors`` in Triton: every pixel looks at its 3x3 classes, those it needs read nine
values."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256
INTERPRETED_BLOCK = 4096
MAX_PIXELS = 2**31 - 1 - INTERPRETED_BLOCK


def average_neighbors(
    image: Tensor,  # [B, C, H, W]
    class_map: Tensor,  # [B, H, W] uint8, contiguous
    min_heavy: int,
    first_heavy: int,
    out: Tensor,  # [B, C, H, W], written
) -> None:
    """Write ``image`` with light pixels beside heavy ones averaged; any strides, no allocation.

    Raises:
        ValueError: 2**31 pixels or more.
    """
    if out.numel() == 0:
        return
    pixels = class_map.numel()
    if pixels > MAX_PIXELS:
        raise ValueError(
            f"average_neighbors: expected at most {MAX_PIXELS} pixels, got {pixels}; "
            "split the batch"
        )
    block = INTERPRETED_BLOCK if triton.knobs.runtime.interpret else BLOCK
    average_neighbors_fwd_kernel[(triton.cdiv(pixels, block),)](
        image,
        class_map,
        out,
        pixels,
        *image.shape[1:],
        *image.stride(),
        *out.stride(),
        min(min_heavy, 10),  # more than nine, and no class beyond the last: nothing is averaged
        min(first_heavy, 256),
        BLOCK=block,
    )


_STRIDES = ("image", "channel", "row", "col")


@triton.jit(
    do_not_specialize=[
        *("pixels", "channels", "height", "width", "min_heavy", "first_heavy"),
        *(f"{t}_{s}" for t in ("in", "out") for s in _STRIDES),
    ]
)
def average_neighbors_fwd_kernel(
    image,
    class_map,
    out,
    pixels,
    channels,
    height,
    width,
    in_image,
    in_channel,
    in_row,
    in_col,
    out_image,
    out_channel,
    out_row,
    out_col,
    min_heavy,
    first_heavy,
    BLOCK: tl.constexpr,
):
    """One block of pixels, all channels."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = pixel < pixels
    x = pixel % width
    y = pixel // width % height
    whole = (pixel // width // height).to(tl.int64)
    framed = (y < 1) | (x < 1) | (y >= height - 1) | (x >= width - 1)
    inside = exists & (framed == 0)
    heavy = tl.zeros([BLOCK], tl.int32)
    for i in tl.static_range(9):
        near = pixel + (i // 3 - 1) * width + (i % 3 - 1)
        own = tl.load(class_map + near, mask=inside, other=0).to(tl.int32)
        heavy += (own >= first_heavy).to(tl.int32)
    own = tl.load(class_map + pixel, mask=exists, other=0).to(tl.int32)
    averaged = inside & (own < first_heavy) & (heavy >= min_heavy)

    SUM: tl.constexpr = tl.float64 if out.dtype.element_ty == tl.float64 else tl.float32
    source = image + whole * in_image + y.to(tl.int64) * in_row + x.to(tl.int64) * in_col
    target = out + whole * out_image + y.to(tl.int64) * out_row + x.to(tl.int64) * out_col
    c = 0
    while c < channels:
        value = tl.load(source, mask=exists, other=0)
        total = tl.zeros([BLOCK], SUM)
        for i in tl.static_range(9):
            step = (i // 3 - 1) * in_row + (i % 3 - 1) * in_col
            total += tl.load(source + step, mask=averaged, other=0).to(SUM)
        mean = total / 9 if out.dtype.element_ty == tl.float64 else tl.div_rn(total, 9.0)
        tl.store(target, tl.where(averaged, mean.to(out.dtype.element_ty), value), mask=exists)
        source += in_channel
        target += out_channel
        c += 1
