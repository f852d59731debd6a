# ruff: noqa: N803 (compile-time constants are written in capitals)
"""Which patches lie over the boxes of a canvas, and which of them shows."""

from __future__ import annotations

import triton
import triton.language as tl

from ._boxes import slot_at


@triton.jit
def cell_of(
    box,
    wholes,
    box_rows,
    box_cols,
    index,
    k,
    grid_rows,
    grid_cols,
    index_image,
    index_slot,
    BY_SLOT: tl.constexpr,
):
    """``(image, slot, row, col, up, across, present)`` of boxes, each [BLOCK_BOXES].

    The box lies (up, across) cells into its whole, a canvas or a patch, and at cell (row, col) of
    the grid; ``slot`` counts within the image. Present: inside the canvas, or a patch on the grid.
    """
    whole = box // (box_rows * box_cols)
    up = box // box_cols % box_rows
    across = box % box_cols
    present = whole < wholes
    if BY_SLOT:
        image = whole // k
        slot = whole - image * k
        place = image.to(tl.int64) * index_image + slot.to(tl.int64) * index_slot
        cell = tl.load(index + place, mask=present, other=-1)
        present = (cell >= 0) & (cell < grid_rows * grid_cols)
        return image, slot, cell // grid_cols + up, cell % grid_cols + across, up, across, present
    else:
        return whole, whole, up, across, up, across, present


@triton.jit
def candidate(
    slots,
    image,
    row,
    col,
    grid_rows,
    grid_cols,
    present,
    i,
    along,
    real,
    step,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    COVER: tl.constexpr,
    UNIT: tl.constexpr,
):
    """``(slot, u, v, covered)`` of the step-th patch that may cover a box, in the grid's order.

    ``slot`` [BLOCK_BOXES] within the image, -1 where there is none; element (i, along) of the box
    is (u, v) of the patch; ``covered`` [BLOCK_BOXES, BLOCK_ELEMENTS].
    """
    up = COVER - 1 - step // COVER
    across = COVER - 1 - step % COVER
    slot = slot_at(slots, image, row - up, col - across, grid_rows, grid_cols, present)
    u = i + up * STRIDE
    v = along + across * (STRIDE * UNIT)
    covered = (slot >= 0)[:, None] & (real & (u < SIDE) & (v < SIDE * UNIT))[None, :]
    return slot, u, v, covered


@triton.jit
def cover(where, SIDE: tl.constexpr, STRIDE: tl.constexpr, COVER: tl.constexpr, UNIT: tl.constexpr):
    """``(covered, owner, count)`` [BLOCK_BOXES, BLOCK_ELEMENTS]: the last slot, how many there are.

    ``where``: the first ten arguments of ``candidate``. ``covered`` says what ``owner >= 0`` does,
    in a form whose runs the compiler can follow.
    """
    slot, _, _, covered = candidate(*where, 0, SIDE, STRIDE, COVER, UNIT)
    owner = tl.where(covered, slot[:, None], -1)
    count = covered.to(tl.int32)
    for step in tl.range(1, COVER * COVER, loop_unroll_factor=3):
        slot, _, _, here = candidate(*where, step, SIDE, STRIDE, COVER, UNIT)
        owner = tl.maximum(owner, tl.where(here, slot[:, None], -1))
        count += here.to(tl.int32)
        covered = covered | here
    return covered, owner, count
