# ruff: noqa: N803, N806 (compile-time constants are written in capitals)
"""``refine_patches_`` in Triton: a launch per convolution, over the pixels of all patches.

Rows of the product are pixels of the result, of one patch after the other, so that no row is
wasted on the odd size of a patch; its columns are output channels; its depth is taps times input
channels. A row's address moves with the tap, and what lies outside the patch reads zero. The first
convolution may take its windows from the feature map, and the last one writes its pixels where the
patch lies in the image, through the pixel shuffle. Sums are float32, rounded once at the end.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 128
INTERPRETED_ROWS = 1 << 13  # the interpreter pays per program
MAX_ROWS = 2**31 - 1 - INTERPRETED_ROWS


class Places(NamedTuple):
    """Where the patches lie: their index [B, k], the grid, the patch and its halo in pixels."""

    index: Tensor
    grid: tuple[int, int]
    patch_size: int
    halo: int


class Geometry(NamedTuple):
    """A convolution within patches, and the pixel shuffle behind it.

    Attributes:
        window: height and width of what it reads. made: of what it makes, before the shuffle.
        side: of its kernel. stride, pad: pad is that in front; behind it is what ``made`` needs.
        groups: of channels.
        factor: of the shuffle, 1 where there is none. tf: TensorFlow's order of its channels.
        transposed: bias and slopes are one for each channel after the shuffle, not before.
    """

    window: tuple[int, int]
    made: tuple[int, int]
    side: int
    stride: int
    pad: int
    groups: int
    factor: int = 1
    tf: bool = False
    transposed: bool = False


class Epilogue(NamedTuple):
    """What happens to a sum: plus ``bias``, plus ``added``, the activation, times ``factors``.

    ``added`` and ``factors`` [N, C, h, w] have the shape of the result, channels_last. ``slopes``
    holds one slope of a prelu, or one for each channel; ``slope`` is that of leaky.
    """

    bias: Tensor | None = None
    added: Tensor | None = None
    act: str = ""
    slope: float = 0.0
    slopes: Tensor | None = None
    factors: Tensor | None = None


def pack(weight: Tensor) -> Tensor:
    """weight [Cout, Cin/g, k, k] -> [k*k, Cin/g, Cout]. One launch, no sync."""
    return weight.permute(2, 3, 1, 0).flatten(0, 1).contiguous()


def refine_patches_conv(
    source: Tensor,  # [N, C, h, w]; or the feature map [B, C, H, W]
    filters: Tensor,  # packed
    out: Tensor,  # [N, C', f*h', f*w'] channels_last, written; or the canvas [B, C', s*H, s*W]
    geometry: Geometry,
    epilogue: Epilogue,
    places: Places,
    gathers: bool,
    scatters: bool,
) -> None:
    """Write one convolution of all patches, with its epilogue.

    Args:
        source: values of all patches, any strides; with ``gathers`` the map they are windows of.
        filters: of ``pack``.
        out: values of all patches; with ``scatters`` the image they are parts of, any strides: an
            index outside the grid is not written, nor what lies outside the image.
        geometry, epilogue: what to compute.
        places: where the patches lie.
        gathers, scatters: as above. No allocation.

    Raises:
        ValueError: more than about 2**31 pixels.
    """
    slots, pixels = places.index.numel(), math.prod(geometry.made)
    rows = slots * pixels
    if rows > MAX_ROWS:
        raise ValueError(
            f"refine_patches_: expected at most {MAX_ROWS} pixels of patches, got {slots} patches "
            f"of {pixels}; take fewer at a time"
        )
    _, inputs, outputs = filters.shape
    own = outputs // geometry.groups
    spread = scatters or geometry.factor > 1
    sizes = _block_sizes(rows, inputs, own, source.dtype, spread)
    grid = (
        triton.cdiv(rows, sizes["BLOCK_M"]),
        triton.cdiv(own, sizes["BLOCK_N"]),
        geometry.groups,
    )
    bias, added, act, slope, slopes, factors = epilogue
    adjacent = source.stride(1) == 1 or source.shape[1] == 1
    vector = _vector(source) if adjacent else 1
    image, channel, row, col = source.stride()
    refine_patches_fwd_kernel[grid](
        source,
        places.index,
        filters,
        filters if bias is None else bias,
        filters if slopes is None else slopes,
        filters if added is None else added,
        filters if factors is None else factors,
        out,
        rows,
        places.index.shape[1],
        *places.grid,
        *places.index.stride(),
        *source.shape[2:],
        image // vector,
        channel,
        row // vector,
        col // vector,
        *out.shape[2:],
        *out.stride(),
        GATHERS=gathers,
        SCATTERS=scatters,
        PATCH=places.patch_size,
        HALO=places.halo,
        WINDOW_H=geometry.window[0],
        WINDOW_W=geometry.window[1],
        MADE_H=geometry.made[0],
        MADE_W=geometry.made[1],
        SIDE=geometry.side,
        STRIDE=geometry.stride,
        PAD=geometry.pad,
        INPUTS=inputs,
        OUTPUTS=own,
        GROUPS=geometry.groups,
        FACTOR=geometry.factor,
        TF=geometry.tf,
        TRANSPOSED=geometry.transposed,
        ADJACENT=adjacent,
        VECTOR=vector,
        HAS_BIAS=bias is not None,
        ADDS=added is not None,
        ACT=act,
        SLOPE=slope,
        ONE_SLOPE=slopes is not None and slopes.numel() == 1,
        MULTIPLIES=factors is not None,
        **sizes,
    )


def _block_sizes(
    rows: int, inputs: int, outputs: int, dtype: torch.dtype, spread: bool
) -> dict[str, int | bool]:
    """The tile. Registers would spill without eight warps of float32, which takes multiply-adds,
    or of stores that are ``spread``, each with an address of its own; these have half the rows.
    """
    single, interpreted = dtype == torch.float32, triton.knobs.runtime.interpret
    deep = not single and triton.cdiv(inputs, 16) % 2 == 0  # whole steps of 32 inputs
    most = min(INTERPRETED_ROWS, max(16, triton.next_power_of_2(rows)))
    return {
        "BLOCK_M": most if interpreted else ROWS // 2 if spread else ROWS,
        "BLOCK_N": min(64, max(16, triton.next_power_of_2(outputs))),
        "BLOCK_K": 32 if deep else 16,
        "WIDEN": interpreted
        and dtype == torch.bfloat16,  # which the interpreter multiplies wrongly
        "num_warps": 8 if single or spread else 4,
    }


def _vector(x: Tensor) -> int:
    """Channels that one access may move: up to 16 bytes, a divisor of every other stride."""
    strides = [x.stride(d) for d in (0, 2, 3) if x.shape[d] > 1]
    return math.gcd(16 // x.element_size(), *strides)


@triton.jit
def activated(
    value,  # [rows, columns] float32
    slopes,
    parameter,  # [columns], which of the slopes
    known,
    ACT: tl.constexpr,
    SLOPE: tl.constexpr,
    ONE: tl.constexpr,
):
    """``value`` after the activation; NaN stays NaN."""
    if ACT == "relu":
        value = tl.where(value < 0, 0.0, value)
    elif ACT == "leaky":
        value = tl.where(value < 0, value * SLOPE, value)
    elif ACT == "prelu":
        if ONE:
            own = tl.load(slopes).to(tl.float32)
            value = tl.where(value < 0, value * own, value)
        else:
            each = tl.load(slopes + parameter, mask=known, other=0).to(tl.float32)
            value = tl.where(value < 0, value * each[None, :], value)
    elif ACT == "sigmoid":
        value = 1 / (1 + tl.exp(-value))
    elif ACT == "tanh":
        size = tl.abs(value)
        e = tl.exp(-2 * size)
        square = value * value
        near = value * (1 - square / 3 + 2 * square * square / 15)  # where 1 - e cancels
        far = tl.where(value < 0, (e - 1) / (1 + e), (1 - e) / (1 + e))
        value = tl.where(size < 0.1, near, far)
    return value


@triton.jit(
    do_not_specialize=[
        "rows",
        "k",
        "grid_rows",
        "grid_cols",
        "index_image",
        "index_slot",
        "source_height",
        "source_width",
        "source_image",
        "source_channel",
        "source_row",
        "source_col",
        "out_height",
        "out_width",
        "out_image",
        "out_channel",
        "out_row",
        "out_col",
    ]
)
def refine_patches_fwd_kernel(
    source,
    index,
    filters,
    bias,
    slopes,
    added,
    factors,
    out,
    rows,
    k,
    grid_rows,
    grid_cols,
    index_image,
    index_slot,
    source_height,
    source_width,
    source_image,
    source_channel,
    source_row,
    source_col,
    out_height,
    out_width,
    out_image,
    out_channel,
    out_row,
    out_col,
    GATHERS: tl.constexpr,
    SCATTERS: tl.constexpr,
    PATCH: tl.constexpr,
    HALO: tl.constexpr,
    WINDOW_H: tl.constexpr,
    WINDOW_W: tl.constexpr,
    MADE_H: tl.constexpr,
    MADE_W: tl.constexpr,
    SIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    PAD: tl.constexpr,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    GROUPS: tl.constexpr,
    FACTOR: tl.constexpr,
    TF: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    ADJACENT: tl.constexpr,
    VECTOR: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ADDS: tl.constexpr,
    ACT: tl.constexpr,
    SLOPE: tl.constexpr,
    ONE_SLOPE: tl.constexpr,
    MULTIPLIES: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """BLOCK_M pixels of patches and BLOCK_N outputs of a group."""
    STEPS: tl.constexpr = (INPUTS + BLOCK_K - 1) // BLOCK_K
    COLUMNS: tl.constexpr = OUTPUTS * GROUPS
    CHANNELS: tl.constexpr = COLUMNS // (FACTOR * FACTOR)
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    present = row < rows
    slot = row // (MADE_H * MADE_W)
    y = row // MADE_W % MADE_H
    x = row % MADE_W
    image = slot // k
    readable = present
    if GATHERS or SCATTERS:
        place = image.to(tl.int64) * index_image + (slot - image * k).to(tl.int64) * index_slot
        cell = tl.load(index + place, mask=present, other=-1)
        valid = (cell >= 0) & (cell < grid_rows * grid_cols)
        cell_row = cell // grid_cols
        cell_col = cell % grid_cols
    if GATHERS:
        readable = present & valid
        origin = image.to(tl.int64) * source_image
        top = cell_row * PATCH - HALO
        left = cell_col * PATCH - HALO
    else:
        origin = slot.to(tl.int64) * source_image

    output = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    column = tl.program_id(2) * OUTPUTS + output
    known = output < OUTPUTS
    first = tl.program_id(2) * INPUTS
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for step in tl.range(0, SIDE * SIDE * STEPS):
        tap = step // STEPS
        channel = step % STEPS * BLOCK_K + tl.arange(0, BLOCK_K)
        v = y * STRIDE - PAD + tap // SIDE
        u = x * STRIDE - PAD + tap % SIDE
        reads = readable & (v >= 0) & (v < WINDOW_H) & (u >= 0) & (u < WINDOW_W)
        if GATHERS:
            v += top
            u += left
            reads = reads & (v >= 0) & (v < source_height) & (u >= 0) & (u < source_width)
        pixel = (origin + v.to(tl.int64) * source_row + u.to(tl.int64) * source_col) * VECTOR
        inner = first + channel if ADJACENT else (first + channel).to(tl.int64) * source_channel
        a = tl.load(
            source + pixel[:, None] + inner[None, :],
            mask=reads[:, None] & (channel < INPUTS)[None, :],
            other=0,
        )
        b = tl.load(
            filters + ((tap * INPUTS + channel) * COLUMNS)[:, None] + column[None, :],
            mask=(channel < INPUTS)[:, None] & known[None, :],
            other=0,
        )
        if WIDEN:
            a = a.to(tl.float32)
            b = b.to(tl.float32)
        total = tl.dot(a, b, total, input_precision="ieee")

    # Behind the shuffle: channel c of the pixel (dy, dx) of FACTOR x FACTOR.
    if TF:
        dy = column // (FACTOR * CHANNELS)
        dx = column // CHANNELS % FACTOR
        c = column % CHANNELS
    else:
        dy = column // FACTOR % FACTOR
        dx = column % FACTOR
        c = column // (FACTOR * FACTOR)
    parameter = c if TRANSPOSED else column
    if HAS_BIAS:
        offset = tl.load(bias + parameter, mask=known, other=0)
        total += offset.to(tl.float32)[None, :]
    # Values of the batch lie as [N, FACTOR * MADE_H, FACTOR * MADE_W, CHANNELS].
    WIDTH: tl.constexpr = FACTOR * MADE_W
    corner = ((slot.to(tl.int64) * MADE_H + y) * FACTOR * WIDTH + x * FACTOR) * CHANNELS
    within = column if FACTOR == 1 else (dy * WIDTH + dx) * CHANNELS + c
    there = present[:, None] & known[None, :]
    if ADDS:
        more = tl.load(added + corner[:, None] + within[None, :], mask=there, other=0)
        total += more.to(tl.float32)
    total = activated(total, slopes, parameter, known, ACT, SLOPE, ONE_SLOPE)
    if MULTIPLIES:
        times = tl.load(factors + corner[:, None] + within[None, :], mask=there, other=0)
        total *= times.to(tl.float32)
    result = total.to(out.dtype.element_ty)
    if SCATTERS:
        v = (cell_row * MADE_H + y) * FACTOR
        u = (cell_col * MADE_W + x) * FACTOR
        corner = image.to(tl.int64) * out_image + v.to(tl.int64) * out_row
        corner += u.to(tl.int64) * out_col
        within = (
            c.to(tl.int64) * out_channel + dy.to(tl.int64) * out_row + dx.to(tl.int64) * out_col
        )
        there = there & valid[:, None] & (v[:, None] + dy[None, :] < out_height)
        there = there & (u[:, None] + dx[None, :] < out_width)
    tl.store(out + corner[:, None] + within[None, :], result, mask=there)
