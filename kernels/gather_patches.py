# ruff: noqa: N803, N806 (compile-time constants are written in capitals)
"""``gather_patches`` in Triton: windows out of a map, and the sum of windows back into one.

Forward: a box is a window; every element is read once, or is zero. Backward: a box is a grid cell's
pixels, which the same windows cover, so its owner adds them up in a fixed order: deterministic, no
float atomics.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ._boxes import (
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


def gather_patches(
    x: Tensor,  # [B, C, H, W]
    index: Tensor,  # [B, k] int32
    patches: Tensor,  # [B*k, C, P, P], written
    halo: int,
    stride: int,
    grid: tuple[int, int],
) -> None:
    """Write the windows of ``x`` into ``patches``; zero outside the map and outside the grid.

    Args:
        x: map of any strides.
        index: patches to take, any strides.
        patches: output of the dtype of ``x``, any strides that do not overlap.
        halo: pixels that a window starts before its patch; P = patch_size + 2 * halo.
        stride: distance between patches in pixels.
        grid: (Gh, Gw). No allocation.
    """
    if patches.numel() == 0:
        return
    slots, channels, side, _ = patches.shape
    height, width = x.shape[2:]
    stride = useful_stride(stride, side, halo, height, width)
    steps = walk(patches, [x], [side, halo, stride, width])
    programs, blocks = tile("gather_patches", slots, channels * side**2, steps.vector)
    gather_patches_fwd_kernel[programs](
        x,
        index,
        patches,
        slots,
        index.shape[1],
        height,
        steps.columns(width),
        *grid,
        *index.stride(),
        *steps.strides(x),
        *steps.strides(patches),
        SIDE=side,
        HALO=halo,
        STRIDE=stride,
        **steps.constants(),
        **blocks,
    )


def gather_patches_backward(
    grad: Tensor,  # [B*k, C, P, P]
    index: Tensor,  # [B, k] int32
    grad_x: Tensor,  # [B, C, H, W], written
    halo: int,
    stride: int,
    grid: tuple[int, int],
) -> None:
    """Write the sum of all windows that cover a pixel into ``grad_x``, zero where there is none.

    Summed in float32 (float64 for float64), in the order of the grid and, where a patch is named
    several times, of its slots; rounded once. Allocates the slot maps, 8 bytes per grid cell.
    """
    if grad_x.numel() == 0:
        return
    batch, channels, height, width = grad_x.shape
    side = grad.shape[2]
    stride = useful_stride(stride, side, halo, height, width)
    first_box = halo // stride
    box_rows, box_cols = ((n - 1 + halo) // stride - first_box + 1 for n in (height, width))
    steps = walk(grad_x, [grad], [side, halo, stride, width])
    programs, blocks = tile(
        "gather_patches_backward",
        batch * box_rows * box_cols,
        channels * stride**2,
        steps.vector,
    )
    maps = slot_maps(index, grid[0] * grid[1], first=True)
    gather_patches_bwd_kernel[programs](
        grad,
        index,
        grad_x,
        maps[0],
        maps[1],
        batch * box_rows * box_cols,
        box_rows,
        box_cols,
        index.shape[1],
        height,
        steps.columns(width),
        *grid,
        *index.stride(),
        *steps.strides(grad),
        *steps.strides(grad_x),
        SIDE=side,
        HALO=halo,
        STRIDE=stride,
        COVER=triton.cdiv(side, stride),
        **steps.constants(),
        **blocks,
    )


_INTEGERS = ["k", "height", "columns", "grid_rows", "grid_cols", "index_image", "index_slot"]
_STRIDES = ["image", "channel", "row", "col"]


@triton.jit(
    do_not_specialize=[
        "slots",
        *_INTEGERS,
        *(f"{t}_{s}" for t in ("x", "patches") for s in _STRIDES),
    ]
)
def gather_patches_fwd_kernel(
    x,
    index,
    patches,
    slots,
    k,
    height,
    columns,
    grid_rows,
    grid_cols,
    index_image,
    index_slot,
    x_image,
    x_channel,
    x_row,
    x_col,
    patches_image,
    patches_channel,
    patches_row,
    patches_col,
    SIDE: tl.constexpr,
    HALO: tl.constexpr,
    STRIDE: tl.constexpr,
    PLANES: tl.constexpr,
    UNIT: tl.constexpr,
    DENSE: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK_BOXES: tl.constexpr,
    BLOCK_ELEMENTS: tl.constexpr,
):
    """One tile of windows."""
    ELEMENTS: tl.constexpr = PLANES * UNIT * SIDE * SIDE
    slot, element = tile_of(ELEMENTS, BLOCK_BOXES, BLOCK_ELEMENTS)
    image = slot // k
    place = image.to(tl.int64) * index_image + (slot - image * k).to(tl.int64) * index_slot
    cell = tl.load(index + place, mask=slot < slots, other=-1)
    valid = (cell >= 0) & (cell < grid_rows * grid_cols)
    top = cell // grid_cols * STRIDE - HALO
    left = cell % grid_cols * STRIDE - HALO

    plane, u, along = place_of(element, SIDE, UNIT)
    write = (slot < slots)[:, None] & (element < ELEMENTS)[None, :]
    read = (write & valid[:, None]) & on_map(top, left, u, along, height, columns, UNIT, VECTOR)
    source = corner_at(image, top, left, x_image, x_row, x_col, UNIT, DENSE, VECTOR)[:, None]
    source += element_at(plane, u, along, x_channel, x_row, x_col, UNIT, DENSE, VECTOR)[None, :]
    target = (slot.to(tl.int64) * patches_image * VECTOR)[:, None] + element_at(
        plane, u, along, patches_channel, patches_row, patches_col, UNIT, DENSE, VECTOR
    )[None, :]
    tl.store(patches + target, tl.load(x + source, mask=read, other=0), mask=write)


@triton.jit(
    do_not_specialize=[
        "boxes",
        "box_rows",
        "box_cols",
        *_INTEGERS,
        *(f"{t}_{s}" for t in ("grad", "out") for s in _STRIDES),
    ]
)
def gather_patches_bwd_kernel(
    grad,
    index,
    out,
    last_slots,
    first_slots,
    boxes,
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
    HALO: tl.constexpr,
    STRIDE: tl.constexpr,
    COVER: tl.constexpr,
    PLANES: tl.constexpr,
    UNIT: tl.constexpr,
    DENSE: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK_BOXES: tl.constexpr,
    BLOCK_ELEMENTS: tl.constexpr,
):
    """One tile of pixels; a box at (row, col) holds those whose last window is that cell's."""
    ELEMENTS: tl.constexpr = PLANES * UNIT * STRIDE * STRIDE
    SUM: tl.constexpr = tl.float64 if grad.dtype.element_ty == tl.float64 else tl.float32
    box, element = tile_of(ELEMENTS, BLOCK_BOXES, BLOCK_ELEMENTS)
    image = box // (box_rows * box_cols)
    row = box // box_cols % box_rows + HALO // STRIDE
    col = box % box_cols + HALO // STRIDE
    plane, i, along = place_of(element, STRIDE, UNIT)

    total = tl.zeros([BLOCK_BOXES, BLOCK_ELEMENTS], SUM)
    for step in tl.range(0, COVER * COVER, loop_unroll_factor=4):
        up = COVER - 1 - step // COVER
        across = COVER - 1 - step % COVER
        u = i + up * STRIDE
        v = along + across * (STRIDE * UNIT)
        covered = (u < SIDE) & (v < SIDE * UNIT) & (element < ELEMENTS)
        source = grad + element_at(
            plane, u, v, grad_channel, grad_row, grad_col, UNIT, DENSE, VECTOR
        )
        present = box < boxes
        last = slot_at(last_slots, image, row - up, col - across, grid_rows, grid_cols, present)
        reverse = slot_at(first_slots, image, row - up, col - across, grid_rows, grid_cols, present)
        first = k - 1 - reverse
        turns = tl.max(tl.where(last >= 0, last - first, -1), 0) + 1
        turn = 0
        while turn < turns:  # once, unless a patch is named twice
            slot = first + turn
            named = (last >= 0) & (slot <= last)
            if turn > 0:
                place = image.to(tl.int64) * index_image + slot.to(tl.int64) * index_slot
                cell = tl.load(index + place, mask=named, other=-1)
                named = named & (cell == (row - up) * grid_cols + col - across)
            window = (image.to(tl.int64) * k + slot) * grad_image * VECTOR
            value = tl.load(
                source[None, :] + window[:, None],
                mask=named[:, None] & covered[None, :],
                other=0,
            )
            total += value.to(SUM)
            turn += 1

    y = row * STRIDE - HALO
    x = col * STRIDE - HALO
    write = (box < boxes)[:, None] & (element < ELEMENTS)[None, :]
    write = write & on_map(y, x, i, along, height, columns, UNIT, VECTOR)
    target = corner_at(image, y, x, out_image, out_row, out_col, UNIT, DENSE, VECTOR)[:, None]
    target += element_at(plane, i, along, out_channel, out_row, out_col, UNIT, DENSE, VECTOR)[
        None, :
    ]
    tl.store(out + target, total.to(out.dtype.element_ty), mask=write)
