# ruff: noqa: N803, N806 (compile-time constants are written in capitals)
"""What the patch kernels share: maps cut into boxes, boxes cut into tiles, the maps of slots.

A *box* is a square of pixels with all its channels that shares one decision: a gathered window, or
the pixels of a map that lie in the same grid cell and are therefore covered by the same patches.
A program owns a tile of [boxes, elements of a box]. What depends on the box (which patch, where) is
computed once per box, what depends on the element (plane, row, place along the line) has divisors
known at compile time, and an address is the sum of the two.

The elements of a box run along *lines*. Where channels lie side by side (channels_last) there is
one plane whose lines hold UNIT = C elements per pixel, otherwise there are C planes with UNIT = 1.
Horizontal places and masks count elements, not pixels. VECTOR elements, up to 16 bytes, move in one
access: strides are passed divided by VECTOR and multiplied by it in the kernel, which is how the
compiler learns that the access is aligned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

THREADS = 128  # num_warps=4, the default of a launch
MAX_PROGRAMS = 2**31 - 1
# The interpreter pays per program, not per element.
INTERPRETED_TILE = 1 << 14


@dataclass(frozen=True)
class Walk:
    """How the elements of an output are ordered, and how many of them one access moves."""

    planes: int
    unit: int  # elements per pixel of a line
    dense: bool  # lines are runs of adjacent elements, in every tensor
    vector: int

    def strides(self, x: Tensor) -> tuple[int, int, int, int]:
        """Image, channel, row and column strides of ``x``, those between vectors in vectors."""
        inner = {3} if self.unit == 1 else {1, 3} if self.dense else {1}
        image, channel, row, col = (
            s if d in inner else s // self.vector for d, s in enumerate(_strides(x))
        )
        return image, channel, row, col

    def columns(self, width: int) -> int:
        """The length of a line of the map in vectors."""
        return width * self.unit // self.vector

    def constants(self) -> dict[str, int]:
        """The walk as kernel arguments."""
        return {
            "PLANES": self.planes,
            "UNIT": self.unit,
            "DENSE": self.dense,
            "VECTOR": self.vector,
        }


def walk(out: Tensor, others: Sequence[Tensor], lengths: Sequence[int]) -> Walk:
    """The walk for an output [N, C, H, W] and the maps or patches read with it.

    Args:
        out: decides the order; channels_last, or anything else.
        others: tensors [N, C, H, W] of the same dtype that are read along the way.
        lengths: widths, sides and offsets in pixels: where a run of elements begins and ends.
    """
    tensors = (out, *others)
    channels = out.shape[1]
    widest = 16 // out.element_size()
    unit, planes = 1, channels
    if channels > 1 and out.stride(1) == 1 and not out.is_contiguous():
        unit, planes = channels, 1
    adjacent = all(x.stride(1) == 1 for x in tensors) if unit > 1 else True
    dense = adjacent and all(x.stride(3) == unit or x.shape[3] == 1 for x in tensors)
    if not dense and (unit == 1 or not adjacent):
        return Walk(planes, unit, False, 1)
    # Between vectors lie the strides of images, planes and rows; of pixels, if lines have gaps.
    between = [0, 2] + ([1] if unit == 1 else []) + ([] if dense else [3])
    strides = [_strides(x)[d] for x in tensors for d in between]
    runs = [length * unit for length in lengths] if dense else [unit]
    return Walk(planes, unit, dense, math.gcd(widest, *runs, *strides))


def _strides(x: Tensor) -> list[int]:
    """Strides of ``x``; 0 where there is only one place to be."""
    return [s if n > 1 else 0 for n, s in zip(x.shape, x.stride(), strict=True)]


def tile(op: str, boxes: int, elements: int, vector: int) -> tuple[tuple[int], dict[str, int]]:
    """The launch grid for ``boxes`` of ``elements`` each, and the tile as kernel arguments.

    Raises:
        ValueError: more than 2**31 - 1 boxes, elements of a box or programs.
    """
    if max(boxes, elements) > MAX_PROGRAMS:
        raise ValueError(
            f"{op}: expected at most {MAX_PROGRAMS} patches or grid cells, and elements in each, "
            f"got {boxes} of {elements}; split the batch or the map"
        )
    budget = INTERPRETED_TILE if triton.knobs.runtime.interpret else THREADS * max(8, 2 * vector)
    # The longest tile of whole warps that wastes at most an eighth of its lanes, else the one
    # that wastes least.
    lengths = [budget >> i for i in range(budget.bit_length()) if budget >> i >= 32 * vector]
    if elements <= lengths[-1]:
        lengths = [triton.next_power_of_2(elements)]
    padded = [triton.cdiv(elements, n) * n for n in lengths]
    good = [n for n, p in zip(lengths, padded, strict=True) if p * 8 <= elements * 9]
    length = good[0] if good else lengths[padded.index(min(padded))]
    side = min(max(budget // length, 1), triton.next_power_of_2(boxes))
    programs = triton.cdiv(boxes, side) * triton.cdiv(elements, length)
    if programs > MAX_PROGRAMS:
        raise ValueError(f"{op}: {programs} programs exceed a launch; split the batch or the map")
    return (programs,), {"BLOCK_BOXES": side, "BLOCK_ELEMENTS": length}


def useful_stride(stride: int, side: int, halo: int, height: int, width: int) -> int:
    """``stride``, or a smaller one with the same windows where the second one leaves the map.

    Boxes are squares of ``stride`` pixels; they need not be larger than windows and map.
    """
    return min(stride, max(side, height + halo, width + halo))


def slot_maps(index: Tensor, cells: int, first: bool) -> Tensor:
    """[1 or 2, B, cells] int32: where a grid cell stands in ``index`` [B, k] int32, -1: nowhere.

    ``maps[0]`` is the last such slot of the image. With ``first``, ``k - 1 - maps[1]`` is the first
    one: they differ where a patch is named twice. Indices outside the grid appear nowhere. Two
    launches, no host sync.
    """
    batch, k = index.shape
    maps = torch.full((1 + first, batch, cells), -1, dtype=torch.int32, device=index.device)
    slots = batch * k
    if slots > 0:
        block = min(1024, triton.next_power_of_2(slots))
        grid = (triton.cdiv(slots, block),)
        slot_maps_kernel[grid](
            index, maps[0], maps[-1], slots, k, cells, *index.stride(), FIRST=first, BLOCK=block
        )
    return maps


@triton.jit(do_not_specialize=["slots", "k", "cells", "index_image", "index_slot"])
def slot_maps_kernel(
    index,  # [B, k] int32
    last,  # [B, cells] int32, -1
    first,  # [B, cells] int32, -1
    slots,
    k,
    cells,
    index_image,
    index_slot,
    FIRST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes every slot into the maps; the largest wins, so the order of programs does not show."""
    slot = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    present = slot < slots
    image = slot // k
    place = slot - image * k
    cell = tl.load(
        index + image.to(tl.int64) * index_image + place.to(tl.int64) * index_slot, mask=present
    )
    valid = present & (cell >= 0) & (cell < cells)
    here = image.to(tl.int64) * cells + cell
    tl.atomic_max(last + here, place, mask=valid, sem="relaxed")
    if FIRST:
        tl.atomic_max(first + here, k - 1 - place, mask=valid, sem="relaxed")


@triton.jit
def tile_of(ELEMENTS: tl.constexpr, BLOCK_BOXES: tl.constexpr, BLOCK_ELEMENTS: tl.constexpr):
    """``(box [BLOCK_BOXES], element [BLOCK_ELEMENTS])`` of this program."""
    tiles: tl.constexpr = (ELEMENTS + BLOCK_ELEMENTS - 1) // BLOCK_ELEMENTS
    program = tl.program_id(0)
    box = program // tiles * BLOCK_BOXES + tl.arange(0, BLOCK_BOXES)
    element = program % tiles * BLOCK_ELEMENTS + tl.arange(0, BLOCK_ELEMENTS)
    return box, element


@triton.jit
def place_of(element, SIDE: tl.constexpr, UNIT: tl.constexpr):
    """``(plane, row, along)`` of an element of a box of SIDE x SIDE pixels."""
    LINE: tl.constexpr = SIDE * UNIT
    line = element // LINE
    return line // SIDE, line % SIDE, element % LINE


@triton.jit
def corner_at(
    image,
    row,
    col,
    s_image,
    s_row,
    s_col,
    UNIT: tl.constexpr,
    DENSE: tl.constexpr,
    VECTOR: tl.constexpr,
):
    """Offset of the pixel (row, col) of an image: what is constant within a box."""
    outer = image.to(tl.int64) * s_image + row.to(tl.int64) * s_row
    if DENSE:
        return outer * VECTOR + col * UNIT
    else:
        return (outer + col.to(tl.int64) * s_col) * VECTOR


@triton.jit
def element_at(
    plane,
    row,
    along,
    s_channel,
    s_row,
    s_col,
    UNIT: tl.constexpr,
    DENSE: tl.constexpr,
    VECTOR: tl.constexpr,
):
    """Offset of an element from its box's corner."""
    if UNIT == 1:
        outer = (plane.to(tl.int64) * s_channel + row.to(tl.int64) * s_row) * VECTOR
        return outer + (along if DENSE else along.to(tl.int64) * s_col)
    elif DENSE:
        return row.to(tl.int64) * s_row * VECTOR + along
    else:
        outer = (row.to(tl.int64) * s_row + (along // UNIT).to(tl.int64) * s_col) * VECTOR
        return outer + (along % UNIT if VECTOR > 1 else (along % UNIT).to(tl.int64) * s_channel)


@triton.jit
def slot_at(maps, image, row, col, grid_rows, grid_cols, present):
    """The last slot of a grid cell within its image, -1 outside the grid or where not chosen."""
    present = present & (row >= 0) & (row < grid_rows) & (col >= 0) & (col < grid_cols)
    cell = (image.to(tl.int64) * grid_rows + row) * grid_cols + col
    return tl.load(maps + cell, mask=present, other=-1)


@triton.jit
def on_map(row, col, i, along, height, columns, UNIT: tl.constexpr, VECTOR: tl.constexpr):
    """Whether elements (i, along) of the boxes at (row, col) lie on a map, [boxes, elements]."""
    y = row[:, None] + i[None, :]
    x = (col * UNIT)[:, None] + along[None, :]
    return (y >= 0) & (y < height) & (x >= 0) & (x < columns * VECTOR)
