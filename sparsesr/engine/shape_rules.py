"""Rules of what moves, enlarges and cuts values, and of what does nothing."""

from __future__ import annotations

import builtins
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .rules import _map, _method, lowers
from .steps import Steps, UnlowerableError, Value


@lowers(F.pixel_shuffle, torch.pixel_shuffle)
def _shuffle(steps: Steps, x: Any, upscale_factor: int) -> Value:
    return steps.shuffle(_map(x), upscale_factor)


@lowers(nn.PixelShuffle)
def _shuffle_module(steps: Steps, m: nn.PixelShuffle, x: Any) -> Value:
    return _shuffle(steps, x, m.upscale_factor)


@lowers(F.interpolate)
def _interpolate(
    steps: Steps,
    x: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Value:
    height, width = _map(x).shape[1:]
    if antialias or align_corners or mode not in ("nearest", "bilinear"):
        raise UnlowerableError(f"interpolate: mode={mode!r}, align_corners={align_corners}")
    if size is not None:
        rows, cols = size if isinstance(size, (tuple, list)) else (size, size)
    else:
        factors = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * 2
        rows, cols = (n * float(f) for n, f in zip((height, width), factors, strict=True))
        if rows != int(rows) or cols != int(cols):
            # Torch would use the factor itself, not the ratio of the sizes.
            raise UnlowerableError(f"interpolate: {scale_factor} x {[height, width]} is not whole")
    rows, cols = int(rows), int(cols)
    if mode == "bilinear":
        return steps.resize(x, rows, cols)
    if size is not None:
        steps.sized("interpolate to a size")
    if rows % height or cols % width or rows // height != cols // width:
        raise UnlowerableError("nearest enlargement but by one whole factor")
    return steps.nearest(x, rows // height)


@lowers(nn.Upsample, nn.UpsamplingNearest2d)
def _upsample(steps: Steps, m: nn.Upsample, x: Any) -> Value:
    return _interpolate(steps, x, m.size, m.scale_factor, m.mode, m.align_corners)


@lowers(F.pad)
def _pad(steps: Steps, x: Any, pad: Any, mode: str = "constant", value: Any = None) -> Value:
    if mode != "replicate" or len(pad) != 4 or pad[0] or pad[2] or min(pad) < 0:
        raise UnlowerableError(f"pad {pad}, mode={mode!r}: only last rows and columns repeat")
    return steps.pad(_map(x), pad[3], pad[1])


@lowers(operator.getitem)
def _getitem(steps: Steps, x: Any, index: Any) -> Any:
    if not isinstance(x, Value):
        return operator.getitem(x, index)  # of a shape, a list
    index = index if isinstance(index, tuple) else (index,)
    index = tuple(i for i in index if i is not Ellipsis) if index[-1:] == (Ellipsis,) else index
    if index[:1] != (slice(None),):
        raise UnlowerableError(f"an index {list(index)}")
    return _flat_item(steps, x, index) if x.flat else _map_item(steps, x, index)


def _map_item(steps: Steps, x: Value, index: tuple[Any, ...]) -> Value:
    if len(index) > 4 or not all(isinstance(i, slice) for i in index):
        raise UnlowerableError(f"an index {list(index)}")
    if len(index) > 1 and index[1] != slice(None):
        x = _channels(steps, x, index[1])
    ends = list(x.shape[1:])
    for axis, part in enumerate(index[2:]):
        if part == slice(None):
            continue
        steps.sized("cropping")
        first, last, stride = part.indices(ends[axis])
        if first != 0 or stride != 1:
            raise UnlowerableError(f"an index {list(index)} that does not begin at the first pixel")
        ends[axis] = last
    return x if tuple(ends) == x.shape[1:] else steps.crop(x, ends[0], ends[1])


def _channels(steps: Steps, x: Value, part: slice) -> Value:
    first, last, stride = part.indices(x.shape[0])
    if stride != 1 or last <= first:
        raise UnlowerableError(f"channels {part}")
    return steps.slice(x, first, last - first)


def _flat_item(steps: Steps, x: Value, index: tuple[Any, ...]) -> Value:
    """``r[:, j, None, None, None]``, ``r[:, :, None, None]``, ``r[:, a:b]``."""
    channel = index[1] if len(index) > 1 else slice(None)
    added = index[2:]
    if isinstance(channel, int) and added == (None,) * 3:
        first = channel % x.shape[0]
        return _as_map(steps.slice(x, first, 1))
    if not isinstance(channel, slice) or added not in ((), (None, None)):
        raise UnlowerableError(f"an index {list(index)} of a matrix")
    made = x if channel == slice(None) else _channels(steps, x, channel)
    return _as_map(made) if added else made


def _as_map(x: Value) -> Value:
    return Value(x.number, x.shape, memory=x.memory)


@lowers(torch.split)
@_method("split")
def _split(steps: Steps, x: Any, split_size_or_sections: Any, dim: int = 0) -> list[Value]:
    if dim not in (1, -3):
        raise UnlowerableError(f"a split along dimension {dim}")
    channels, sizes = _map(x).shape[0], split_size_or_sections
    if isinstance(sizes, int):
        sizes = [min(sizes, channels - first) for first in range(0, channels, sizes)]
    firsts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [steps.slice(x, first, size) for first, size in zip(firsts, sizes, strict=True)]


@lowers(torch.chunk)
@_method("chunk")
def _chunk(steps: Steps, x: Any, chunks: int, dim: int = 0) -> list[Value]:
    return _split(steps, x, -(-_map(x).shape[0] // chunks), dim)


# Sizes.


@lowers(builtins.getattr)
def _attribute(steps: Steps, x: Any, name: str) -> Any:
    if isinstance(x, Value):
        if name != "shape":
            raise UnlowerableError(f".{name} of a value")
        return x.sizes
    return getattr(x, name)


@_method("size")
def _size(steps: Steps, x: Value, dim: int | None = None) -> Any:
    return x.sizes if dim is None else x.sizes[dim]


@_method("dim", "ndimension")
def _dim(steps: Steps, x: Value) -> int:
    return len(x.sizes)


# Nothing.


@lowers(nn.Identity)
def _identity(steps: Steps, m: nn.Module, x: Any, *_: Any) -> Any:
    return x


@lowers(nn.Dropout, nn.Dropout2d)
def _dropout(steps: Steps, m: nn.Module, x: Any) -> Any:
    if m.training and getattr(m, "p", 1.0) > 0:
        raise UnlowerableError(f"{type(m).__name__} in training mode")
    return x


@lowers(F.dropout, F.dropout2d)
def _dropout_function(
    steps: Steps, x: Any, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Any:
    if training and p > 0:
        raise UnlowerableError("dropout in training mode")
    return x


@_method("contiguous")
def _same(steps: Steps, x: Value, memory_format: Any = None) -> Value:
    return x


@lowers(torch.clone)
@_method("clone")
def _clone(steps: Steps, x: Value, memory_format: Any = None) -> Value:
    return Value(x.number, x.shape, x.flat)  # with a memory of its own
