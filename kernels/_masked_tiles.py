# ruff: noqa: N803 (compile-time constants are written in capitals)
"""What the masked convolutions share: tiles of pixels, and the products of one tap and step.

Maps lie as [B, H, W, P] contiguous, P channels padded with zeros to whole blocks, so that every
address is a pixel's number times a constant. A program owns a tile of TILE_ROWS x TILE_COLS pixels
and BLOCK_N outputs. Whether any pixel of it is active is one scalar, which decides what is computed
at all; which of its rows may read a sparse channel decides a mask of the load.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

TILE_ROWS = 8
TILE_COLS = 16
MAX_PROGRAMS = 2**31 - 1


def block_n(channels: int) -> int:
    """Outputs of a program."""
    return min(64, max(16, triton.next_power_of_2(channels)))


def block_k(channels: int, dtype: torch.dtype) -> int:
    """Inputs of a step; small, for a tile without active pixels reads few dense channels."""
    return 16 if dtype == torch.float32 else min(32, block_n(channels))


def padded(channels: int) -> int:
    """Channels of a map or filter in memory: whole blocks."""
    return triton.cdiv(channels, block_n(channels)) * block_n(channels)


def padded_pixels(x: Tensor) -> Tensor:
    """``x`` [B,C,H,W] as [B,H,W,P] contiguous; its own memory where it lies so already."""
    pixels = x.permute(0, 2, 3, 1)
    return F.pad(pixels, (0, padded(x.shape[1]) - x.shape[1])).contiguous()


def tiles(op: str, x: Tensor) -> int:
    """How many tiles the images of ``x`` [B,C,H,W] have.

    Raises:
        ValueError: more than 2**31 - 1.
    """
    count = x.shape[0] * triton.cdiv(x.shape[2], TILE_ROWS) * triton.cdiv(x.shape[3], TILE_COLS)
    if count > MAX_PROGRAMS:
        raise ValueError(
            f"{op}: expected at most {MAX_PROGRAMS} tiles of {TILE_ROWS}x{TILE_COLS} pixels, got "
            f"{count}; split the batch"
        )
    return count


def constants(dtype: torch.dtype) -> dict[str, object]:
    """What every launch passes. The interpreter multiplies bfloat16 wrongly, but not as float32."""
    widen = triton.knobs.runtime.interpret and dtype == torch.bfloat16
    warps = 8 if dtype == torch.float32 else 4  # with four, the multiply-adds spill registers
    return {"TILE_ROWS": TILE_ROWS, "TILE_COLS": TILE_COLS, "WIDEN": widen, "num_warps": warps}


@triton.jit
def tile_of(height, width, TILE_ROWS: tl.constexpr, TILE_COLS: tl.constexpr):
    """``(image, y, x)`` of this program's pixels, y and x [TILE_ROWS * TILE_COLS]."""
    cols = (width + TILE_COLS - 1) // TILE_COLS
    rows = (height + TILE_ROWS - 1) // TILE_ROWS
    tile = tl.program_id(0)
    pixel = tl.arange(0, TILE_ROWS * TILE_COLS)
    y = tile // cols % rows * TILE_ROWS + pixel // TILE_COLS
    x = tile % cols * TILE_COLS + pixel % TILE_COLS
    return tile // cols // rows, y, x


@triton.jit
def number_of(image, y, x, height, width):
    """Pixels in front of (y, x) of an image."""
    return (image.to(tl.int64) * height + y) * width + x


@triton.jit
def active_of(mask, image, y, x, height, width):
    """Which pixels of the tile are active."""
    inside = (y < height) & (x < width)
    return tl.load(mask + number_of(image, y, x, height, width), mask=inside, other=0) != 0


@triton.jit
def add_products(
    total,  # [TILE_ROWS * TILE_COLS, BLOCK_N] float32
    source,  # [B, H, W, PITCH]
    filters,  # [SIDE * SIDE, PITCH, OUTPUTS]
    image,
    y,
    x,
    height,
    width,
    step,
    steps,  # of a tap
    readable,  # channels that every row reads; all, where a row is active
    active,
    SIDE: tl.constexpr,
    PITCH: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """``total`` plus what BLOCK_K inputs of one tap contribute; ``step`` counts all such."""
    tap = step // steps
    channel = step % steps * BLOCK_K + tl.arange(0, BLOCK_K)
    output = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    v = y + tap // SIDE - SIDE // 2
    u = x + tap % SIDE - SIDE // 2
    inside = (v >= 0) & (v < height) & (u >= 0) & (u < width)
    reads = inside[:, None] & (active[:, None] | (channel < readable)[None, :])
    place = number_of(image, v, u, height, width) * PITCH
    a = tl.load(source + place[:, None] + channel[None, :], mask=reads, other=0)
    row = (tap * PITCH + channel).to(tl.int64) * OUTPUTS
    b = tl.load(filters + row[:, None] + output[None, :])
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, total, input_precision="ieee")
