# ruff: noqa: N803 (compile-time constants are written in capitals)
"""``select_patches`` in Triton: the k best scores of every image by radix selection.

One program per image reads its scores five times: four histograms of 8 key bits find the k-th best
key, a last pass writes the positions in ascending order. No scratch memory, no host sync.

Cost: a program runs on one multiprocessor, so the time grows with the scores of one image (a block
of 8,192 scores per step and pass) and not with the batch. Up to a few ten thousand scores that is a
few launches' worth; a single image of 131,072 scores keeps the rest of the GPU idle meanwhile.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

MAX_BLOCK = 8192


def select_patches(mask: Tensor, index: Tensor, largest: bool) -> None:
    """Write the ascending positions of the k best scores into ``index``.

    Args:
        mask: scores [B, Gh, Gw], any strides; compared as float32, -0 equals +0, ties go to the
            lower index, NaN ranks last in both orders.
        index: output [B, k] int32, contiguous, k <= Gh*Gw. No allocation.
        largest: whether the largest or the smallest scores are the best.
    """
    if index.numel() == 0:
        return
    batch, rows, cols = mask.shape
    block = max(128, min(MAX_BLOCK, triton.next_power_of_2(rows * cols)))
    select_patches_fwd_kernel[(batch,)](
        mask,
        index,
        index.shape[1],
        rows * cols,
        cols,
        *mask.stride(),
        FLAT=mask.stride(1) == cols * mask.stride(2) or rows == 1,
        LARGEST=largest,
        BLOCK=block,
        num_warps=16 if block >= 4096 else 4,
    )


@triton.jit(do_not_specialize=["k", "cells", "cols", "mask_image", "mask_row", "mask_col"])
def select_patches_fwd_kernel(
    mask,
    index,
    k,
    cells,
    cols,
    mask_image,
    mask_row,
    mask_col,
    FLAT: tl.constexpr,
    LARGEST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One image."""
    image = tl.program_id(0)
    mask += image.to(tl.int64) * mask_image
    index += image.to(tl.int64) * k

    prefix = tl.full([], 0, tl.uint32)  # the settled high bits of the k-th best key
    settled = tl.full([], 0, tl.uint32)  # which they are
    wanted = k  # its rank among the keys that share them
    for step in range(4):
        shift = 24 - 8 * step
        histogram = tl.zeros([256], tl.int32)
        start = 0
        while start < cells:  # the interpreter of 3.6.0 takes no tensor as the end of a range
            cell = start + tl.arange(0, BLOCK)
            key = key_of(mask, cell, cells, cols, mask_row, mask_col, FLAT, LARGEST)
            same = (cell < cells) & ((key & settled) == prefix)
            histogram += tl.histogram(((key >> shift) & 255).to(tl.int32), 256, mask=same)
            start += BLOCK
        total = tl.cumsum(histogram, 0)
        digit = tl.sum((total < wanted).to(tl.int32), 0)
        wanted -= tl.max(tl.where(total < wanted, total, 0), 0)
        prefix |= digit.to(tl.uint32) << shift
        settled |= tl.full([], 255, tl.uint32) << shift

    # Better keys all count, equal ones until `wanted` of them are taken.
    written = 0
    start = 0
    while start < cells:
        cell = start + tl.arange(0, BLOCK)
        key = key_of(mask, cell, cells, cols, mask_row, mask_col, FLAT, LARGEST)
        better = (cell < cells) & (key < prefix)
        equal = (cell < cells) & (key == prefix)
        # Two counts in one scan: BLOCK < 2**16.
        counts = tl.cumsum(better.to(tl.int32) * 65536 + equal.to(tl.int32), 0)
        ties = counts & 65535
        rank = (counts >> 16) + tl.minimum(ties, wanted)
        taken = better | (equal & (ties <= wanted))
        tl.store(index + written + rank - 1, cell, mask=taken)
        written += tl.sum(taken.to(tl.int32), 0)
        wanted = tl.maximum(wanted - tl.sum(equal.to(tl.int32), 0), 0)
        start += BLOCK


@triton.jit
def key_of(mask, cell, cells, cols, mask_row, mask_col, FLAT: tl.constexpr, LARGEST: tl.constexpr):
    """Keys in the order of the scores as float32, uint32, the best the smallest; NaN behind all.

    FLAT: the step from a row to the next is that of ``cols`` columns.
    """
    if FLAT:
        place = cell.to(tl.int64) * mask_col
    else:
        place = (cell // cols).to(tl.int64) * mask_row + (cell % cols).to(tl.int64) * mask_col
    score = tl.load(mask + place, mask=cell < cells, other=0).to(tl.float32)
    bits = score.to(tl.uint32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    bits = tl.where(magnitude == 0, 0, bits)  # -0 is +0
    ascending = bits ^ tl.where(bits >> 31 != 0, 0xFFFFFFFF, 0x80000000)
    key = ascending ^ 0xFFFFFFFF if LARGEST else ascending
    return tl.where(magnitude > 0x7F800000, 0xFFFFFFFF, key)
