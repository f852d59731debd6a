# ruff: noqa: N803, N806 (compile-time constants are written in capitals)
"""``scatter_patches`` in Triton: every pixel is written once, by whoever owns it.

Out of place a box is a grid cell's pixels, and the map of slots says which patches cover them.
In place, and for the gradient of the patches, a box is such a cell's share of one patch; in place
the last patch over a pixel writes it. Deterministic, no atomics on values.
"""

from __future__ import annotations

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from ._boxes import (
    Walk,
    corner_at,
    element_at,
    on_map,
    place_of,
    slot_at,
    slot_maps,
    tile,
    tile_of,
    useful_stride,
    walk,
)
from ._cover import candidate, cell_of, cover


def scatter_patches(
    canvas: Tensor,  # [B, C, Hc, Wc]
    patches: Tensor,  # [B*k, C, p, p]
    index: Tensor,  # [B, k] int32
    out: Tensor,  # [B, C, Hc, Wc], written; `canvas` itself: in place
    stride: int,
    grid: tuple[int, int],
    mean: bool,
) -> None:
    """Write ``canvas`` with the patches over it into ``out``.

    Args:
        canvas: map of any strides.
        patches: any strides, not sharing memory with ``out``.
        index: where the patches lie, any strides; each at most once in an image (of a repeated one
            the last slot counts); outside the grid: ignored.
        out: a map of any strides that does not overlap ``canvas``, or ``canvas``: then only covered
            pixels are touched.
        stride: distance between patches in canvas pixels.
        grid: (Gh, Gw) of the canvas.
        mean: average all patches over a pixel (summed in float32, float64 for float64, rounded
            once), else take the last in the order of ``index``.

    Allocates the slot map, 4 bytes per grid cell.
    """
    in_place = out is canvas
    if out.numel() == 0 or (in_place and index.numel() == 0):
        return
    side = patches.shape[2]
    steps, integers, constants, programs = _plan(
        "scatter_patches", out, [canvas, patches], canvas, index, side, stride, grid, in_place
    )
    scatter_patches_fwd_kernel[programs](
        canvas,
        patches,
        index,
        out,
        slot_maps(index, grid[0] * grid[1], first=False),
        *integers,
        *steps.strides(canvas),
        *steps.strides(patches),
        *steps.strides(out),
        MEAN=mean,
        **constants,
    )


def scatter_patches_backward(
    grad: Tensor,  # [B, C, Hc, Wc]
    index: Tensor,  # [B, k] int32
    grad_canvas: Tensor,  # [B, C, Hc, Wc], written
    grad_patches: Tensor,  # [B*k, C, p, p], written
    stride: int,
    grid: tuple[int, int],
    mean: bool,
) -> None:
    """Write both gradients; arguments as of ``scatter_patches``. Allocates the slot map.

    The canvas keeps the gradient where no patch lies. A patch takes it where it is the one that
    shows (or its share of the mean), zero elsewhere and for an index outside the grid.
    """
    side = grad_patches.shape[2]
    maps = slot_maps(index, grid[0] * grid[1], first=False)
    for out, by_slot in ((grad_canvas, False), (grad_patches, True)):
        if out.numel() == 0:
            continue
        steps, integers, constants, programs = _plan(
            "scatter_patches_backward", out, [grad], grad, index, side, stride, grid, by_slot
        )
        scatter_patches_bwd_kernel[programs](
            grad,
            index,
            out,
            maps,
            *integers,
            *steps.strides(grad),
            *steps.strides(out),
            MEAN=mean,
            **constants,
        )


def _plan(
    op: str,
    out: Tensor,
    others: Sequence[Tensor],
    canvas: Tensor,
    index: Tensor,
    side: int,
    stride: int,
    grid: tuple[int, int],
    by_slot: bool,
) -> tuple[Walk, tuple[int, ...], dict[str, int], tuple[int]]:
    """``(walk, integer arguments, constants, launch grid)`` of a kernel that writes ``out``.

    Its boxes are grid cells of the canvas (the wholes are images), or cells within patches.
    """
    batch, channels, height, width = canvas.shape
    stride = useful_stride(stride, side, 0, height, width)
    overlap = triton.cdiv(side, stride)
    if by_slot:
        wholes, box, box_rows, box_cols = index.numel(), min(side, stride), overlap, overlap
    else:
        wholes, box = batch, stride
        box_rows, box_cols = triton.cdiv(height, stride), triton.cdiv(width, stride)
    steps = walk(out, others, [side, stride, width])
    programs, blocks = tile(op, wholes * box_rows * box_cols, channels * box**2, steps.vector)
    integers = (
        *(wholes, box_rows, box_cols, index.shape[1], height, steps.columns(width)),
        *grid,
        *index.stride(),
    )
    constants = {"SIDE": side, "STRIDE": stride, "COVER": overlap, "BOX": box, "BY_SLOT": by_slot}
    return steps, integers, {**constants, **steps.constants(), **blocks}, programs


@triton.jit
def _quotient(total, count):
    """``total / count``, correctly rounded."""
    if total.dtype == tl.float64:
        return total / count.to(tl.float64)
    else:
        return tl.div_rn(total, count.to(tl.float32))


_INTEGERS = ["wholes", "box_rows", "box_cols", "k", "height", "columns", "grid_rows", "grid_cols"]
_INTEGERS += ["index_image", "index_slot"]
_STRIDES = ["image", "channel", "row", "col"]


@triton.jit(
    do_not_specialize=[
        *_INTEGERS,
        *(f"{t}_{s}" for t in ("canvas", "patches", "out") for s in _STRIDES),
    ]
)
def scatter_patches_fwd_kernel(
    canvas,
    patches,
    index,
    out,
    slots,
    wholes,
    box_rows,
    box_cols,
    k,
    height,
    columns,
    grid_rows,
    grid_cols,
    index_image,
    index_slot,
    canvas_image,
    canvas_channel,
    canvas_row,
    canvas_col,
    patches_image,
    patches_channel,
    patches_row,
    patches_col,
    out_image,
    out_channel,
    out_row,
    out_col,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    COVER: tl.constexpr,
    BOX: tl.constexpr,
    BY_SLOT: tl.constexpr,
    MEAN: tl.constexpr,
    PLANES: tl.constexpr,
    UNIT: tl.constexpr,
    DENSE: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK_BOXES: tl.constexpr,
    BLOCK_ELEMENTS: tl.constexpr,
):
    """One tile of the canvas; by slot, of the patches, whose pixels are then written in place."""
    ELEMENTS: tl.constexpr = PLANES * UNIT * BOX * BOX
    DTYPE: tl.constexpr = out.dtype.element_ty
    SUM: tl.constexpr = tl.float64 if out.dtype.element_ty == tl.float64 else tl.float32
    box, element = tile_of(ELEMENTS, BLOCK_BOXES, BLOCK_ELEMENTS)
    image, slot, row, col, up, across, present = cell_of(
        *(box, wholes, box_rows, box_cols, index, k, grid_rows, grid_cols),
        *(index_image, index_slot, BY_SLOT),
    )
    plane, i, along = place_of(element, BOX, UNIT)
    real = element < ELEMENTS
    where = (slots, image, row, col, grid_rows, grid_cols, present, i, along, real)
    covered, owner, count = cover(where, SIDE, STRIDE, COVER, UNIT)

    total = tl.zeros([BLOCK_BOXES, BLOCK_ELEMENTS], SUM if MEAN else DTYPE)
    for step in tl.range(0, COVER * COVER, loop_unroll_factor=4):
        other, u, v, read = candidate(*where, step, SIDE, STRIDE, COVER, UNIT)
        if COVER > 1 and not MEAN:
            read = read & (owner == other[:, None])
        window = (image.to(tl.int64) * k + other) * patches_image * VECTOR
        inner = element_at(
            plane, u, v, patches_channel, patches_row, patches_col, UNIT, DENSE, VECTOR
        )
        source = window[:, None] + inner[None, :]
        value = tl.load(patches + source, mask=read, other=0)
        total = total + value.to(SUM) if MEAN else tl.where(read, value, total)
    value = _quotient(total, tl.maximum(count, 1)).to(DTYPE) if MEAN else total

    y = row * STRIDE
    x = col * STRIDE
    write = (present[:, None] & real[None, :]) & on_map(
        y, x, i, along, height, columns, UNIT, VECTOR
    )
    if BY_SLOT:
        # Of the patches over a pixel the last writes it.
        own = slot_at(slots, image, row - up, col - across, grid_rows, grid_cols, present)
        write = write & covered & (own == slot)[:, None]
        if COVER > 1:
            write = write & (owner == slot[:, None])
    else:
        source = corner_at(image, y, x, canvas_image, canvas_row, canvas_col, UNIT, DENSE, VECTOR)[
            :, None
        ]
        source += element_at(
            plane, i, along, canvas_channel, canvas_row, canvas_col, UNIT, DENSE, VECTOR
        )[None, :]
        value = tl.where(covered, value, tl.load(canvas + source, mask=write & ~covered, other=0))
    target = corner_at(image, y, x, out_image, out_row, out_col, UNIT, DENSE, VECTOR)[:, None]
    target += element_at(plane, i, along, out_channel, out_row, out_col, UNIT, DENSE, VECTOR)[
        None, :
    ]
    tl.store(out + target, value, mask=write)


@triton.jit(
    do_not_specialize=[
        *_INTEGERS,
        *(f"{t}_{s}" for t in ("grad", "out") for s in _STRIDES),
    ]
)
def scatter_patches_bwd_kernel(
    grad,
    index,
    out,
    slots,
    wholes,
    box_rows,
    box_cols,
    k,
    height,
    columns,
    grid_rows,
    grid_cols,
    index_image,
    index_slot,
    grad_image,
    grad_channel,
    grad_row,
    grad_col,
    out_image,
    out_channel,
    out_row,
    out_col,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    COVER: tl.constexpr,
    BOX: tl.constexpr,
    BY_SLOT: tl.constexpr,
    MEAN: tl.constexpr,
    PLANES: tl.constexpr,
    UNIT: tl.constexpr,
    DENSE: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK_BOXES: tl.constexpr,
    BLOCK_ELEMENTS: tl.constexpr,
):
    """One tile of the canvas's gradient; by slot, of the patches' gradient."""
    ELEMENTS: tl.constexpr = PLANES * UNIT * BOX * BOX
    DTYPE: tl.constexpr = out.dtype.element_ty
    SUM: tl.constexpr = tl.float64 if out.dtype.element_ty == tl.float64 else tl.float32
    box, element = tile_of(ELEMENTS, BLOCK_BOXES, BLOCK_ELEMENTS)
    image, slot, row, col, up, across, present = cell_of(
        *(box, wholes, box_rows, box_cols, index, k, grid_rows, grid_cols),
        *(index_image, index_slot, BY_SLOT),
    )
    plane, i, along = place_of(element, BOX, UNIT)
    real = element < ELEMENTS
    where = (slots, image, row, col, grid_rows, grid_cols, present, i, along, real)
    covered, owner, count = cover(where, SIDE, STRIDE, COVER, UNIT)

    y = row * STRIDE
    x = col * STRIDE
    read = (present[:, None] & real[None, :]) & on_map(
        y, x, i, along, height, columns, UNIT, VECTOR
    )
    if BY_SLOT:
        own = slot_at(slots, image, row - up, col - across, grid_rows, grid_cols, present)
        read = read & (own == slot)[:, None]
        if COVER > 1 and not MEAN:
            read = read & (owner == slot[:, None])
        whole = box // (box_rows * box_cols)
        u = up * STRIDE
        v = across * STRIDE
        write = ((whole < wholes)[:, None] & real[None, :]) & on_map(
            u, v, i, along, SIDE, SIDE * UNIT // VECTOR, UNIT, VECTOR
        )
        target = corner_at(whole, u, v, out_image, out_row, out_col, UNIT, DENSE, VECTOR)[:, None]
    else:
        write = read
        read = read & ~covered
        target = corner_at(image, y, x, out_image, out_row, out_col, UNIT, DENSE, VECTOR)[:, None]
    source = corner_at(image, y, x, grad_image, grad_row, grad_col, UNIT, DENSE, VECTOR)[:, None]
    source += element_at(plane, i, along, grad_channel, grad_row, grad_col, UNIT, DENSE, VECTOR)[
        None, :
    ]
    target += element_at(plane, i, along, out_channel, out_row, out_col, UNIT, DENSE, VECTOR)[
        None, :
    ]
    value = tl.load(grad + source, mask=read, other=0)
    if BY_SLOT and MEAN:
        value = _quotient(value.to(SUM), tl.maximum(count, 1)).to(DTYPE)
    tl.store(out + target, value, mask=write)
