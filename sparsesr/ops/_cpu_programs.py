"""Programs on the CPU: assembled into the tables that csrc/cpu/program.h describes, once and kept.

Concatenations and slices dissolve into the segments that steps read; a transposed convolution
becomes a convolution and a shuffle, its structurally zero taps left out; a shuffle at the end
becomes the order in which pixels are written. Convolutions of bfloat16 run in pairs of channels
where the CPU multiplies them and all that is read begins and ends between two pairs.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .._backend import requested_backend
from . import reference
from ._layout import empty_like_format
from ._module import _loaded, _view
from ._packing import Cache
from ._program import Activation, Program, Shape, Step, map_obstacle, parse_program, value_shapes

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# In the order of csrc/cpu/program.h.
_KINDS = ("conv", "act", "add", "mul", "mean", "softmax", "nearest", "resize", "pad", "crop")
_SHUFFLE = len(_KINDS)
_ACTS = {"relu": 1, "leaky": 2, "prelu": 2, "sigmoid": 3, "tanh": 4}
_LINE = 16  # float32 values: blocks of constants begin on a cache line

Segment = tuple[int, int, int]  # value, first channel, count
Tables = tuple[bytes, bytes, bytes, bytes, bytes, bytes]


def run_program(
    x: Tensor,  # [N, C, H, W]
    weights: Sequence[Tensor],
    program: str,
    covered: Tensor | None = None,  # [N, k] int32
    patch_size: int = 1,
) -> Tensor:
    """The result of a program; sums are float32.

    A program whose values are not all of the size of the input cannot be streamed: step by step
    then, in plain torch, unless this backend was asked for by name. Where the CPU multiplies pairs
    of bfloat16, convolutions of that type do so, and round what they read to it.
    """
    if (why := _why_not_streamed(program, tuple(tuple(w.shape) for w in weights))) is not None:
        if requested_backend() == "cpu":
            raise RuntimeError(
                f"run_program: backend 'cpu' streams a map row by row, and {why}; use 'auto', or "
                "'reference'"
            )
        return reference.run_program(x, weights, program)
    covered = None if covered is None else covered.contiguous()  # held: a view is but an address
    height, width = x.shape[2], x.shape[3]
    assembled = _assembled(weights, program, x.dtype, (x.shape[1], 1, 1), is_map=True)
    channels, factor, _ = assembled.made
    out = empty_like_format((x.shape[0], channels, factor * height, factor * width), x)
    _loaded().cpu.run_program(
        _view("run_program", "x", x),
        assembled.tables_of_map(height, width),
        _view("run_program", "weights", assembled.constants),
        None if covered is None else _view("run_program", "covered", covered),
        patch_size,
        _view("run_program", "out", out),
        torch.get_num_threads(),
    )
    return out


def refine_patches_(
    canvas: Tensor,  # [B, O, s*H, s*W], written
    feature: Tensor,  # [B, C, H, W]
    index: Tensor,  # [B, k] int32
    weights: Sequence[Tensor],
    program: str,
    patch_size: int,
    halo: int,
) -> None:
    """Windows of ``feature`` through the program, into the canvas; sums are float32."""
    side = patch_size + 2 * halo
    assembled = _assembled(
        weights, program, feature.dtype, (feature.shape[1], side, side), is_map=False
    )
    index = index.contiguous()  # held until the call returns: a view is but an address
    _loaded().cpu.refine_patches(
        _view("refine_patches_", "canvas", canvas),
        _view("refine_patches_", "feature", feature),
        _view("refine_patches_", "index", index),
        assembled.tables,
        _view("refine_patches_", "weights", assembled.constants),
        patch_size,
        halo,
        torch.get_num_threads(),
    )


class Assembled(NamedTuple):
    """What the native module takes, and the shape of the result.

    Attributes:
        tables: values, segments, blocks, steps, orders, result: arrays of int64.
        constants: weights, biases and slopes, float32; pairs of bfloat16 seen as such.
        made: channels, height, width.
    """

    tables: Tables
    constants: Tensor
    made: Shape

    def tables_of_map(self, height: int, width: int) -> Tables:
        """The tables of a program assembled for a map of one pixel, for one of any size."""
        values = array("q")
        values.frombytes(self.tables[0])
        count = len(values) // 4
        values[1::4], values[2::4] = array("q", [height] * count), array("q", [width] * count)
        return (values.tobytes(), *self.tables[1:])


@lru_cache(maxsize=256)
def _why_not_streamed(text: str, shapes: tuple[tuple[int, ...], ...]) -> str | None:
    return map_obstacle(parse_program(text), shapes)


_kept = Cache()


def _assembled(
    weights: Sequence[Tensor], text: str, dtype: torch.dtype, shape: Shape, *, is_map: bool
) -> Assembled:
    _, outputs, most = _loaded().cpu.program_rule()
    depth = most if dtype is torch.bfloat16 else 1

    def assemble() -> Assembled:
        program = parse_program(text)
        return _Assembler(program, weights, shape, outputs, depth, is_map).assemble()

    return _kept.get((text, shape, is_map, outputs, depth), weights, assemble)


class _Block(NamedTuple):
    """Outputs that share inputs and taps.

    Attributes:
        weights: [O, I, down, across]. first: of the outputs. in_first: of the inputs.
        top, left: of the taps.
    """

    weights: Tensor
    first: int
    in_first: int
    top: int
    left: int


class _Assembler:
    def __init__(
        self,
        program: Program,
        weights: Sequence[Tensor],
        shape: Shape,
        outputs: int,
        depth: int,
        is_map: bool,
    ) -> None:
        self.program = program
        self.weights = [w.detach().float() for w in weights]
        self.outputs = outputs  # of a block at most
        self.depth = depth  # inputs of a unit of 32 bits, at most
        self.is_map = is_map
        self.shapes = value_shapes(program, [tuple(w.shape) for w in weights], shape)
        self.values: list[list[int]] = [[*shape, 0]]  # channels, height, width, margin
        # Of every value of the program: where its channels lie.
        self.where: list[list[Segment]] = [[(0, 0, shape[0])]]
        self.segments, self.blocks, self.steps, self.orders = (array("q") for _ in range(4))
        self.constants: list[Tensor] = []
        self.length = 0  # of the constants

    def assemble(self) -> Assembled:
        """All tables."""
        last = len(self.program.steps)
        result: tuple[int, int, int] | None = None  # value, factor, order
        for i, step in enumerate(self.program.steps, start=1):
            at_end = i == last == self.program.result
            if at_end and step.kind == "shuffle":
                order = self._order(_shuffled(step, self.shapes[i][0]))
                result = (self._whole(step.inputs[0]), step["factor"], order)
            elif at_end and step.kind == "deconv" and step.add is None and step.mul is None:
                result = self._phases(step)
            else:
                self.where.append(self._place(step, self.shapes[i]))
        made = self.shapes[self.program.result]
        if result is None:
            result = (self._whole(self.program.result), 1, self._order(range(made[0])))
        tables = (
            array("q", [n for value in self.values for n in value]),
            self.segments,
            self.blocks,
            self.steps,
            self.orders,
            array("q", [result[0], made[0], *result[1:]]),
        )
        packed: Tables = tuple(t.tobytes() for t in tables)  # type: ignore[assignment]
        return Assembled(packed, torch.cat([*self.constants, torch.zeros(_LINE)]), made)

    def _place(self, step: Step, shape: Shape) -> list[Segment]:
        """Emit what computes a step; where its channels lie then."""
        reads = [segment for v in step.inputs for segment in self.where[v]]
        match step.kind:
            case "concat":
                return reads
            case "slice":
                return _part(reads, step["first"], step["count"])
            case "conv":
                value = self._convolve(step, shape, reads, self._groups(step), step["pad"])
            case "deconv":
                value = self._deconvolve(step, shape)
            case "shuffle":
                order = self._order(_shuffled(step, shape[0]))
                value = self._emit(_SHUFFLE, shape, reads, factor=step["factor"], order=order)
            case "act":
                slopes = self._slopes(step.act, shape[0])
                at = 0 if slopes is None else self._constant(slopes)
                value = self._emit(1, shape, reads, act=_act(step.act), slopes=at)
            case "add" | "mul":
                value = self._pair(step, shape)
            case _:
                factor = step["factor"] if step.kind == "nearest" else 1
                value = self._emit(_KINDS.index(step.kind), shape, reads, factor=factor)
        return [(value, 0, shape[0])]

    def _deconvolve(self, step: Step, shape: Shape) -> int:
        """A transposed convolution in the middle; what is added to it has the larger size."""
        apart = step.add is not None or step.mul is not None
        plain = replace(step, act=None, add=None, mul=None) if apart else step
        phases, factor, order = self._phases(plain)
        whole = [(phases, 0, self.values[phases][0])]
        value = self._emit(_SHUFFLE, shape, whole, factor=factor, order=order)
        if step.add is not None:
            added = (self._whole(step.add), 0, shape[0])
            value = self._emit(_KINDS.index("add"), shape, [(value, 0, shape[0]), added])
        if apart and step.act is not None:
            slopes = self._slopes(step.act, shape[0])
            at = 0 if slopes is None else self._constant(slopes)
            own = [(value, 0, shape[0])]
            value = self._emit(1, shape, own, act=_act(step.act), slopes=at)
        if step.mul is not None:
            factors = (self._whole(step.mul), 0, shape[0])
            value = self._emit(_KINDS.index("mul"), shape, [(value, 0, shape[0]), factors])
        return value

    def _pair(self, step: Step, shape: Shape) -> int:
        second = self.where[step.inputs[1]]
        if len(second) > 1:
            second = [(self._whole(step.inputs[1]), 0, self.shapes[step.inputs[1]][0])]
        reads = [*self.where[step.inputs[0]], *second]
        return self._emit(_KINDS.index(step.kind), shape, reads)

    def _groups(self, step: Step) -> Iterator[_Block]:
        """A convolution's blocks: as even as they can be, none across groups."""
        weight, groups = self.weights[step["weight"]], step["groups"]
        inputs, first = weight.shape[1], 0
        for g, of_group in enumerate(weight.chunk(groups)):
            for part in _even_parts(of_group, self.outputs):
                yield _Block(part, first, g * inputs, 0, 0)
                first += part.shape[0]

    def _phases(self, step: Step) -> tuple[int, int, int]:
        """A transposed convolution as a convolution; its value, the factor, the order of channels.

        Output pixel ``s*i + r`` takes tap ``r + pad - s*j`` from input pixel ``i + j``. Phases with
        the same range of j share blocks.
        """
        weight, stride, pad = self.weights[step["weight"]], step["stride"], step["pad"]
        ranges = [_reach_of_phase(r, pad, stride, weight.shape[2]) for r in range(stride)]
        before = -min(low for low, _ in ranges)
        alike: dict[tuple[tuple[int, int], tuple[int, int]], list[tuple[int, int]]] = {}
        for dy in range(stride):
            for dx in range(stride):
                alike.setdefault((ranges[dy], ranges[dx]), []).append((dy, dx))
        blocks, places = list[_Block](), dict[tuple[int, int, int], int]()
        colours = weight.shape[1]
        for (rows, cols), phases in alike.items():
            taps = [
                weight[:, :, _taps(dy, pad, stride, rows)][:, :, :, _taps(dx, pad, stride, cols)]
                for dy, dx in phases
            ]
            first = len(places)
            for dy, dx in phases:
                places |= {(c, dy, dx): len(places) + c for c in range(colours)}
            stacked = torch.cat([t.transpose(0, 1) for t in taps])
            for part in _even_parts(stacked, self.outputs):
                blocks.append(_Block(part, first, 0, rows[0] + before, cols[0] + before))
                first += part.shape[0]
        order = [places[key] for key in sorted(places)]
        _, height, width = self.shapes[step.inputs[0]]
        shape = (len(order), height, width)
        channel_of = [c for c, _, _ in sorted(places, key=places.__getitem__)]
        value = self._convolve(step, shape, self.where[step.inputs[0]], blocks, before, channel_of)
        return value, stride, self._order(order)

    def _convolve(
        self,
        step: Step,
        shape: Shape,
        reads: Sequence[Segment],
        blocks: Iterator[_Block] | list[_Block],
        pad: int,
        channel_of: Sequence[int] | None = None,
    ) -> int:
        """Emit a convolution; ``channel_of``: the channel whose bias and slope an output has."""
        outputs = shape[0] if channel_of is None else max(channel_of) + 1
        bias = self.weights[step["bias"]] if "bias" in step.numbers else torch.zeros(outputs)
        slopes = self._slopes(step.act, outputs)
        if channel_of is not None:
            bias = bias[list(channel_of)]
            slopes = None if slopes is None else slopes[list(channel_of)]
        stride = step["stride"] if step.kind == "conv" else 1
        width = self.shapes[step.inputs[0]][2]
        begin, reach = len(self.blocks) // 9, 0
        blocks = list(blocks)
        depth = self._depth_of(reads, blocks)
        for block in blocks:
            count, inputs, down, across = block.weights.shape
            own = slice(block.first, block.first + count)
            parts = [_units(block.weights, depth), bias[own]]
            at = self._constant(*parts, *([] if slopes is None else [slopes[own]]))
            places = (count, block.first, block.in_first, inputs, block.top, down, block.left)
            self.blocks.extend((*places, across, at))
            right = (shape[2] - 1) * stride - pad + block.left + across - width
            beyond = max(pad - block.left, right)
            # On patches the kernels leave out one tap of two or three; zeros serve the others.
            left_out = stride == 1 and beyond <= 1 and across in (2, 3)
            if self.is_map or not left_out:
                reach = max(reach, beyond)
        if reach > 0:
            for value, _, _ in reads:
                self.values[value][3] = max(self.values[value][3], reach)
        add, mul = (-1 if v is None else self._whole(v) for v in (step.add, step.mul))
        return self._emit(
            0,
            shape,
            reads,
            others=(add, mul),
            act=_act(step.act),
            stride=stride,
            pad=pad,
            blocks=(begin, len(self.blocks) // 9 - begin),
            depth=depth,
        )

    def _depth_of(self, reads: Sequence[Segment], blocks: Sequence[_Block]) -> int:
        """Inputs of a unit of a convolution: whole ones in every value and every block, or 1."""
        counts = [n for _, first, count in reads for n in (first, count)]
        counts += [n for block in blocks for n in (block.in_first, block.weights.shape[1])]
        return self.depth if all(n % self.depth == 0 for n in counts) else 1

    def _emit(
        self,
        kind: int,
        shape: Shape,
        reads: Sequence[Segment],
        *,
        others: tuple[int, int] = (-1, -1),
        act: int = 0,
        stride: int = 1,
        pad: int = 0,
        blocks: tuple[int, int] = (0, 0),
        factor: int = 1,
        order: int = 0,
        slopes: int = 0,
        depth: int = 1,
    ) -> int:
        """Append a step; the value it makes."""
        value = len(self.values)
        self.values.append([*shape, 0])
        begin = len(self.segments) // 3
        for segment in reads:
            self.segments.extend(segment)
        self.steps.extend((kind, value, begin, len(reads), *others, act, stride, pad))
        self.steps.extend((*blocks, factor, order, slopes, depth))
        return value

    def _whole(self, value: int) -> int:
        """The number of a value that holds these channels and no others, copied where none does."""
        of, first, count = self.where[value][0]
        if len(self.where[value]) > 1 or first > 0 or count != self.values[of][0]:
            of = self._emit(1, self.shapes[value], self.where[value])
            self.where[value] = [(of, 0, self.shapes[value][0])]
        return of

    def _slopes(self, act: Activation | None, channels: int) -> Tensor | None:
        """Slopes below zero, [channels]."""
        if act is None or act.kind not in ("leaky", "prelu"):
            return None
        if act.kind == "leaky":
            return torch.full((channels,), act.slope)
        return self.weights[act.parameter].expand(channels)

    def _constant(self, *parts: Tensor) -> int:
        """Append constants; where they begin."""
        begin = self.length
        flat = torch.cat([part.reshape(-1) for part in parts])
        padding = -flat.numel() % _LINE
        self.constants += [flat, flat.new_zeros(padding)]
        self.length += flat.numel() + padding
        return begin

    def _order(self, channels: Sequence[int]) -> int:
        begin = len(self.orders)
        self.orders.extend(channels)
        return begin


def _units(weight: Tensor, depth: int) -> Tensor:
    """[O, I, down, across] -> [down, I / depth, across, O] units, flat, seen as float32."""
    units = weight.unflatten(1, (-1, depth)).permute(3, 1, 4, 0, 2)
    return units.to(torch.float32 if depth == 1 else torch.bfloat16).flatten().view(torch.float32)


def _act(act: Activation | None) -> int:
    return 0 if act is None else _ACTS[act.kind]


def _shuffled(step: Step, channels: int) -> list[int]:
    """The channel behind pixel (dy, dx) of channel c, in the order of (c, dy, dx)."""
    square = step["factor"] ** 2
    if step.order == "torch":
        return list(range(channels * square))
    return [phase * channels + c for c in range(channels) for phase in range(square)]


def _part(segments: Sequence[Segment], first: int, count: int) -> list[Segment]:
    """Channels [first, first + count) of what the segments hold."""
    found, seen = list[Segment](), 0
    for value, begin, length in segments:
        low, high = max(first, seen), min(first + count, seen + length)
        if low < high:
            found.append((value, begin + low - seen, high - low))
        seen += length
    return found


def _even_parts(weight: Tensor, most: int) -> Iterator[Tensor]:
    """The outputs of a weight in as few parts as can be, as even as can be."""
    outputs = weight.shape[0]
    count = -(-outputs // most)
    first = 0
    for i in range(count):
        last = outputs * (i + 1) // count
        yield weight[first:last]
        first = last


def _reach_of_phase(phase: int, pad: int, stride: int, side: int) -> tuple[int, int]:
    """The first and last input pixel, relative to its own, that an output pixel takes."""
    return -((side - 1 - phase - pad) // stride), (phase + pad) // stride


def _taps(phase: int, pad: int, stride: int, reach: tuple[int, int]) -> list[int]:
    """The taps that belong to these input pixels."""
    return [phase + pad - stride * j for j in range(reach[0], reach[1] + 1)]
