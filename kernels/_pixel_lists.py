# ruff: noqa: N803 (compile-time constants are written in capitals)
"""HR pixels by class, without a host sync: counts of every chunk, their sums, places."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 1024  # pixels that one program lists


class PixelLists(NamedTuple):
    """Pixels by bucket, in ascending order in each.

    Attributes:
        listed: [pixels] int32, those of bucket 0, then those of bucket 1, ...
        ends: [buckets * chunks] int32; bucket j ends at ``ends[(j + 1) * chunks - 1]``.
        chunks: how many programs listed them.
    """

    listed: Tensor
    ends: Tensor
    chunks: int


def pixel_lists(class_map: Tensor, buckets: int) -> PixelLists:
    """The pixels of a class map [B, H, W] uint8, contiguous, fewer than 2**31, by bucket.

    The last bucket takes every class from ``buckets - 1`` on. Two launches and a sum.
    """
    pixels = class_map.numel()
    chunks = triton.cdiv(pixels, CHUNK)
    counts = torch.empty(buckets * chunks, dtype=torch.int32, device=class_map.device)
    listed = torch.empty(pixels, dtype=torch.int32, device=class_map.device)
    pixel_lists_count_kernel[(chunks,)](class_map, counts, pixels, buckets, CHUNK=CHUNK)
    ends = counts.cumsum(0, dtype=torch.int32)
    pixel_lists_fill_kernel[(chunks,)](
        class_map, counts, ends, listed, pixels, buckets, CHUNK=CHUNK
    )
    return PixelLists(listed, ends, chunks)


@triton.jit(do_not_specialize=["pixels", "buckets"])
def pixel_lists_count_kernel(class_map, counts, pixels, buckets, CHUNK: tl.constexpr):
    """How many pixels of one chunk each bucket has."""
    _, bucket = chunk_of(class_map, pixels, buckets, CHUNK)
    j = 0
    while j < buckets:
        own = tl.sum((bucket == j).to(tl.int32))
        tl.store(counts + j * tl.num_programs(0) + tl.program_id(0), own)
        j += 1


@triton.jit(do_not_specialize=["pixels", "buckets"])
def pixel_lists_fill_kernel(class_map, counts, ends, listed, pixels, buckets, CHUNK: tl.constexpr):
    """Writes the pixels of one chunk where those before them in their bucket end."""
    pixel, bucket = chunk_of(class_map, pixels, buckets, CHUNK)
    j = 0
    while j < buckets:
        own = bucket == j
        entry = j * tl.num_programs(0) + tl.program_id(0)
        first = tl.load(ends + entry) - tl.load(counts + entry)
        tl.store(listed + first + tl.cumsum(own.to(tl.int32), 0) - 1, pixel, mask=own)
        j += 1


@triton.jit
def chunk_of(class_map, pixels, buckets, CHUNK: tl.constexpr):
    """``(pixel, bucket)`` of this program; bucket -1 beyond the last pixel."""
    pixel = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    exists = pixel < pixels
    own = tl.load(class_map + pixel, mask=exists, other=0).to(tl.int32)
    return pixel, tl.where(exists, tl.minimum(own, buckets - 1), -1)


@triton.jit
def listed_pixels(ends, listed, pixels, chunks, bucket, BLOCK: tl.constexpr, LISTED: tl.constexpr):
    """``(pixel, exists)`` of this program's block of a bucket; all pixels when not LISTED."""
    begin = 0
    end = pixels
    if LISTED:
        before = bucket * chunks - 1
        begin = tl.load(ends + tl.maximum(before, 0)) * (before >= 0).to(tl.int32)
        end = tl.load(ends + before + chunks)
    place = begin + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = place < end
    pixel = place
    if LISTED:
        pixel = tl.load(listed + place, mask=exists, other=0)
    return pixel, exists
