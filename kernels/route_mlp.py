# ruff: noqa: N803, N806 (compile-time constants are written in capitals)
"""``route_mlp`` in Triton: pixels listed by class, the first layer at LR, the others in registers.

A launch per class: its programs take blocks of that class's pixels, and those beyond the last one
leave. Widths are rounded up to powers of two, which is dear for widths such as 74 or 170. Products
are made a slice of inputs at a time, so that weights fit the shared memory and float32, which takes
multiply-add and not TensorFloat-32, the registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from ._pixel_lists import PixelLists, listed_pixels, pixel_lists

INTERPRETED_ROWS = 1024  # the interpreter pays per program
MAX_PIXELS = 2**31 - 1 - INTERPRETED_ROWS


@dataclass(frozen=True)
class Mlp:
    """One class: its weights as ``pack`` makes them, outputs of all layers, tables [T, N1]."""

    packed: Tensor
    widths: Sequence[int]
    row_bias: Tensor
    col_bias: Tensor


def pack(weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Weights [N1,C], [N2,N1], ... and biases [N2], ... of a class, transposed, padded, flat."""
    hidden, last = _padded_widths([weight.shape[0] for weight in weights])
    depth = _padded_depth(weights[0])
    own = [weight.detach().t() for weight in weights]
    parts = [_pad(own[0], depth, hidden)]
    parts += [_pad(weight, hidden, hidden) for weight in own[1:-1]]
    parts += [_pad(weight, hidden, last) for weight in own[1:][-1:]]
    parts += [_pad(bias.detach()[None], 1, hidden) for bias in biases[:-1]]
    parts += [_pad(bias.detach()[None], 1, last) for bias in biases[-1:]]
    return torch.cat([part.flatten() for part in parts])


def route_mlp(
    feature: Tensor,  # [B, C, h, w]
    class_map: Tensor | None,  # [B, H, W] uint8, contiguous
    mlps: Sequence[Mlp],
    rows: Tensor,  # [H] float32, contiguous
    cols: Tensor,  # [W] float32, contiguous
    image: Tensor | None,  # [B, O, h, w]
    out: Tensor,  # [B, O, H, W], written
) -> None:
    """Write every HR pixel; maps have any strides. A coordinate that is no number counts as 0.

    Allocates the lists, 8 bytes per HR pixel at most, and the first layers' outputs at LR.

    Raises:
        ValueError: about 2**31 pixels or more.
    """
    pixels = out.numel() // max(out.shape[1], 1)
    lr_pixels = feature.numel() // max(feature.shape[1], 1)
    if max(pixels, lr_pixels) > MAX_PIXELS:
        raise ValueError(f"route_mlp: expected at most {MAX_PIXELS} pixels; split the batch")
    if out.numel() == 0:
        return
    if class_map is None:
        _route(feature, None, 0, mlps[0], rows, cols, image, out)
        return
    lists = pixel_lists(class_map, len(mlps) + 1)
    for j, mlp in enumerate((*mlps, None)):  # the last bucket is of no class
        _route(feature, lists, j, mlp, rows, cols, image, out)


def _route(
    feature: Tensor,
    lists: PixelLists | None,
    bucket: int,
    mlp: Mlp | None,
    rows: Tensor,
    cols: Tensor,
    image: Tensor | None,
    out: Tensor,
) -> None:
    """The pixels of one bucket. What a kernel does not read, some tensor stands for."""
    batch, outputs, height, width = out.shape
    widths = [outputs] if mlp is None else mlp.widths
    hidden, last = _padded_widths(widths)
    constants = _constants(feature.dtype, hidden)
    at_lr = weights = row_bias = col_bias = out
    if mlp is not None:
        at_lr, weights = _first_layer(feature, mlp)
        row_bias, col_bias = mlp.row_bias.contiguous(), mlp.col_bias.contiguous()
    pixels = batch * height * width
    route_mlp_fwd_pixels_kernel[(triton.cdiv(pixels, constants["ROWS"]),)](
        *(at_lr, weights, row_bias, col_bias, rows, cols),
        out if image is None else image,
        out,
        *((rows, rows, 0) if lists is None else lists),
        pixels,
        bucket,
        widths[0],
        row_bias.shape[0],
        col_bias.shape[0],
        max(len(widths) - 2, 0),
        *feature.shape[2:],
        height,
        width,
        *(out if image is None else image).stride(),
        *out.stride(),
        OUTPUTS=outputs,
        HIDDEN=hidden,
        LAST=last,
        ROUTED=mlp is not None,
        SINGLE=len(widths) == 1,
        LISTED=lists is not None,
        HAS_IMAGE=image is not None,
        **constants,
    )


def _first_layer(feature: Tensor, mlp: Mlp) -> tuple[Tensor, Tensor]:
    """Its outputs without bias at every LR pixel, [B*h*w, N1 padded], and the other layers."""
    hidden, _ = _padded_widths(mlp.widths)
    depth = _padded_depth(feature)
    batch, channels, h, w = feature.shape
    at_lr = feature.new_empty((batch * h * w, hidden))
    constants = _constants(feature.dtype, hidden)
    route_mlp_fwd_first_kernel[(triton.cdiv(batch * h * w, constants["ROWS"]),)](
        *(feature, mlp.packed, at_lr, batch * h * w, h, w, *feature.stride()),
        CHANNELS=channels,
        DEPTH=depth,
        HIDDEN=hidden,
        **constants,
    )
    return at_lr, mlp.packed[depth * hidden :]


def _constants(dtype: torch.dtype, hidden: int) -> dict[str, int]:
    """What both kernels take. The interpreter multiplies bfloat16 wrongly, but not as float32."""
    interpreted = triton.knobs.runtime.interpret
    rows = INTERPRETED_ROWS if interpreted else max(16, min(128, 4096 // hidden))
    return {
        "ROWS": rows,
        "STEP": 16 if dtype == torch.float32 else 32,
        "WIDEN": interpreted and dtype == torch.bfloat16,
        "num_warps": 8,
    }


def _padded_widths(widths: Sequence[int]) -> tuple[int, int]:
    """Outputs of hidden layers and of the last one in registers; equal where that is the first."""
    last = max(16, triton.next_power_of_2(widths[-1]))
    hidden = max(16, *(triton.next_power_of_2(width) for width in [1, *widths[:-1]]))
    return (last, last) if len(widths) == 1 else (hidden, last)


def _padded_depth(x: Tensor) -> int:
    """Inputs of the first layer in memory: whole steps."""
    step = _constants(x.dtype, 16)["STEP"]
    return triton.cdiv(x.shape[1], step) * step


def _pad(matrix: Tensor, rows: int, cols: int) -> Tensor:
    return F.pad(matrix, (0, cols - matrix.shape[1], 0, rows - matrix.shape[0]))


_STRIDES = ("image", "channel", "row", "col")


@triton.jit(do_not_specialize=["pixels", "h", "w", *(f"s_{s}" for s in _STRIDES)])
def route_mlp_fwd_first_kernel(
    feature,
    weights,  # [DEPTH, HIDDEN]
    at_lr,  # [pixels, HIDDEN], written
    pixels,
    h,
    w,
    s_image,
    s_channel,
    s_row,
    s_col,
    CHANNELS: tl.constexpr,
    DEPTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The first layer without its bias, at a block of LR pixels."""
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    exists = pixel < pixels
    place = (pixel // w // h).to(tl.int64) * s_image
    place += (pixel // w % h).to(tl.int64) * s_row + (pixel % w).to(tl.int64) * s_col
    total = tl.zeros([ROWS, HIDDEN], tl.float32)
    first = 0
    while first < DEPTH:
        channel = first + tl.arange(0, STEP)
        read = exists[:, None] & (channel < CHANNELS)[None, :]
        source = feature + place[:, None] + (channel.to(tl.int64) * s_channel)[None, :]
        a = tl.load(source, mask=read, other=0)
        total = add_products(total, a, weights + first * HIDDEN, ROWS, STEP, HIDDEN, STEP, WIDEN)
        first += STEP
    target = pixel.to(tl.int64)[:, None] * HIDDEN + tl.arange(0, HIDDEN)[None, :]
    tl.store(at_lr + target, total.to(at_lr.dtype.element_ty), mask=exists[:, None])


@triton.jit(
    do_not_specialize=[
        *("chunks", "pixels", "bucket", "width_1", "row_entries", "col_entries", "layers"),
        *("h", "w", "height", "width"),
        *(f"{t}_{s}" for t in ("image", "out") for s in _STRIDES),
    ]
)
def route_mlp_fwd_pixels_kernel(
    at_lr,  # [LR pixels, HIDDEN]
    weights,  # of the layers behind the first, then their biases
    row_bias,  # [row_entries, width_1]
    col_bias,
    rows,
    cols,
    image,
    out,
    listed,
    ends,
    chunks,
    pixels,
    bucket,
    width_1,
    row_entries,
    col_entries,
    layers,  # between the first and the last
    h,
    w,
    height,
    width,
    image_image,
    image_channel,
    image_row,
    image_col,
    out_image,
    out_channel,
    out_row,
    out_col,
    OUTPUTS: tl.constexpr,
    HIDDEN: tl.constexpr,
    LAST: tl.constexpr,
    ROUTED: tl.constexpr,
    SINGLE: tl.constexpr,
    LISTED: tl.constexpr,
    HAS_IMAGE: tl.constexpr,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """A block of pixels of one bucket through the layers behind the first."""
    pixel, exists = listed_pixels(ends, listed, pixels, chunks, bucket, ROWS, LISTED)
    if tl.sum(exists.to(tl.int32)) > 0:
        x = pixel % width
        y = pixel // width % height
        whole = pixel // width // height
        near_y, low_y, high_y, down = place_on(rows, y, h)
        near_x, low_x, high_x, across = place_on(cols, x, w)
        total = tl.zeros([ROWS, LAST], tl.float32)
        if ROUTED:
            source = (whole.to(tl.int64) * h + near_y) * w + near_x
            channel = tl.arange(0, HIDDEN)
            inside = exists[:, None] & (channel < width_1)[None, :]
            a = tl.load(at_lr + source[:, None] * HIDDEN + channel[None, :], mask=inside, other=0)
            own = (y % row_entries).to(tl.int64)[:, None] * width_1 + channel[None, :]
            offset = tl.load(row_bias + own, mask=inside, other=0).to(tl.float32)
            own = (x % col_entries).to(tl.int64)[:, None] * width_1 + channel[None, :]
            offset += tl.load(col_bias + own, mask=inside, other=0).to(tl.float32)
            sums = a.to(tl.float32) + offset
            if SINGLE:
                total = sums
            else:
                total = other_layers(sums, weights, layers, ROWS, HIDDEN, LAST, STEP, WIDEN)
        output = tl.arange(0, LAST)
        write = exists[:, None] & (output < OUTPUTS)[None, :]
        plane = whole.to(tl.int64)[:, None] * image_image
        plane += output.to(tl.int64)[None, :] * image_channel
        if HAS_IMAGE:
            left = low_x.to(tl.int64)[:, None] * image_col
            right = high_x.to(tl.int64)[:, None] * image_col
            low = image + plane + low_y.to(tl.int64)[:, None] * image_row
            high = image + plane + high_y.to(tl.int64)[:, None] * image_row
            share = down[:, None]
            at_left = tl.load(low + left, mask=write, other=0).to(tl.float32) * (1 - share)
            at_left += tl.load(high + left, mask=write, other=0).to(tl.float32) * share
            at_right = tl.load(low + right, mask=write, other=0).to(tl.float32) * (1 - share)
            at_right += tl.load(high + right, mask=write, other=0).to(tl.float32) * share
            total += at_left * (1 - across)[:, None] + at_right * across[:, None]
        target = whole.to(tl.int64) * out_image
        target += y.to(tl.int64) * out_row + x.to(tl.int64) * out_col
        to = out + target[:, None] + (output.to(tl.int64) * out_channel)[None, :]
        tl.store(to, total.to(out.dtype.element_ty), mask=write)


@triton.jit
def place_on(places, i, length):
    """``(nearest, low, high, part)``: LR places and how far between low and high ``i`` lies."""
    at = tl.load(places + i)
    last = (length - 1).to(tl.float32)
    at = tl.where(at > 0, at, 0.0)  # not a number: 0
    at = tl.where(at < last, at, last)
    low = at.to(tl.int32)
    part = at - low.to(tl.float32)
    up = (part > 0.5) | ((part == 0.5) & (low % 2 == 1))  # half to even
    return low + up.to(tl.int32), low, tl.minimum(low + 1, length - 1), part


@triton.jit
def other_layers(
    sums,  # [ROWS, HIDDEN] float32: outputs of the first one
    weights,
    layers,
    ROWS: tl.constexpr,
    HIDDEN: tl.constexpr,
    LAST: tl.constexpr,
    STEP: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Outputs of the last layer, [ROWS, LAST] float32; before that, values have the map's type."""
    biases = weights + layers * HIDDEN * HIDDEN + HIDDEN * LAST
    layer = 0
    while layer < layers:
        a = relu(sums).to(weights.dtype.element_ty)
        sums = tl.zeros([ROWS, HIDDEN], tl.float32)
        sums = add_products(sums, a, weights, ROWS, HIDDEN, HIDDEN, STEP, WIDEN)
        sums += tl.load(biases + tl.arange(0, HIDDEN)).to(tl.float32)[None, :]
        weights += HIDDEN * HIDDEN
        biases += HIDDEN
        layer += 1
    a = relu(sums).to(weights.dtype.element_ty)
    total = tl.zeros([ROWS, LAST], tl.float32)
    total = add_products(total, a, weights, ROWS, HIDDEN, LAST, STEP, WIDEN)
    return total + tl.load(biases + tl.arange(0, LAST)).to(tl.float32)[None, :]


@triton.jit
def relu(x):
    """Keeps what is not a number, as torch does."""
    return tl.where(x < 0, 0.0, x)


@triton.jit
def add_products(
    total,  # [ROWS, OUTPUTS] float32
    a,  # [ROWS, INPUTS]
    weights,  # [INPUTS, OUTPUTS]
    ROWS: tl.constexpr,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    STEP: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """``total`` plus a times weights, at most STEP inputs at a time: halves of a, halved again."""
    if INPUTS <= STEP:
        row = tl.arange(0, INPUTS)
        b = tl.load(weights + row[:, None] * OUTPUTS + tl.arange(0, OUTPUTS)[None, :])
        if WIDEN:
            a = a.to(tl.float32)
            b = b.to(tl.float32)
        return tl.dot(a, b, total, input_precision="ieee")
    else:
        HALF: tl.constexpr = INPUTS // 2
        low, high = tl.split(tl.permute(tl.reshape(a, [ROWS, 2, HALF]), [0, 2, 1]))
        total = add_products(total, low, weights, ROWS, HALF, OUTPUTS, STEP, WIDEN)
        rest = weights + HALF * OUTPUTS
        return add_products(total, high, rest, ROWS, HALF, OUTPUTS, STEP, WIDEN)
