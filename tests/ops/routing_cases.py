"""Routing said one pixel at a time, and the inputs it is tried on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sparsesr.ops import PixelMLP


def places(length: int, out: int) -> Tensor:
    """LR coordinates of ``out`` pixel centres over ``length`` LR pixels, [out] float32."""
    step = length / out
    return ((torch.arange(out, dtype=torch.float64) + 0.5) * step - 0.5).float()


@dataclass(frozen=True)
class Case:
    """Sizes: LR map, HR map, table period (0: one entry a row), hidden widths of every class."""

    batch: int
    channels: int
    lr: tuple[int, int]
    hr: tuple[int, int]
    period: int
    hidden: tuple[tuple[int, ...], ...]
    outputs: int = 3
    image: bool = True

    def __str__(self) -> str:
        (h, w), (height, width) = self.lr, self.hr
        return f"{self.batch}x{self.channels}x{h}x{w}-{height}x{width}-{self.hidden}"


CASES = [
    Case(1, 48, (5, 7), (20, 28), 4, ((10, 10, 10), (58, 58, 58, 58))),  # FSRCNN-PCSR
    Case(1, 52, (4, 3), (16, 12), 4, ((20, 20, 20), (74, 74, 74, 74))),  # CARN-PCSR
    Case(3, 6, (3, 5), (9, 15), 3, ((4,), (7, 5), (9, 9))),  # three classes, a batch
    Case(2, 5, (5, 4), (14, 11), 0, ((4, 3), (8,))),  # x2.7: no phase repeats
    Case(1, 3, (1, 1), (2, 2), 2, ((3,), (5,))),  # one LR pixel
    Case(2, 4, (1, 6), (4, 24), 4, ((), (6,)), image=False),  # a class of one layer
    Case(1, 7, (6, 5), (3, 5), 0, ((5,),), outputs=2, image=False),  # smaller than the map
]


@dataclass
class Inputs:
    """The arguments of the op."""

    feature: Tensor
    class_map: Tensor | None
    mlps: list[PixelMLP]
    rows: Tensor
    cols: Tensor
    image: Tensor | None

    def to(self, *target: object) -> Inputs:
        """All floating tensors but the coordinates in a dtype; or everything on a device."""
        device = isinstance(target[0], torch.device)

        def moved(x: Tensor | None) -> Tensor | None:
            return x if x is None or not device else x.to(*target)

        mlps = [
            PixelMLP(
                [w.to(*target) for w in m.weights],
                m.row_bias.to(*target),
                m.col_bias.to(*target),
                [b.to(*target) for b in m.biases],
            )
            for m in self.mlps
        ]
        return Inputs(
            self.feature.to(*target),
            moved(self.class_map),
            mlps,
            self.rows if not device else self.rows.to(*target),
            self.cols if not device else self.cols.to(*target),
            None if self.image is None else self.image.to(*target),
        )

    def arguments(self) -> tuple:
        return self.feature, self.class_map, self.mlps, self.rows, self.cols, self.image

    def flat(self) -> tuple:
        """As the registered op takes them."""
        return (
            self.feature,
            self.class_map,
            [w for m in self.mlps for w in m.weights],
            [m.row_bias for m in self.mlps],
            [m.col_bias for m in self.mlps],
            [b for m in self.mlps for b in m.biases],
            [len(m.weights) for m in self.mlps],
            self.rows,
            self.cols,
            self.image,
        )

    def leaves(self) -> list[Tensor]:
        own = [t for m in self.mlps for t in (*m.weights, m.row_bias, m.col_bias, *m.biases)]
        return [self.feature, *own, *([] if self.image is None else [self.image])]

    def tracked(self) -> Inputs:
        """Every floating input asks for its gradient."""
        for leaf in self.leaves():
            leaf.requires_grad_()
        return self


def inputs(case: Case, dtype: torch.dtype = torch.float32, classes: str = "random") -> Inputs:
    rng = torch.Generator().manual_seed(0)
    (h, w), (height, width) = case.lr, case.hr
    tables = (case.period or height, case.period or width)
    mlps = []
    for hidden in case.hidden:
        widths = [case.channels, *hidden, case.outputs]
        weights = [torch.randn(n, m, generator=rng) * math.sqrt(2 / m) for m, n in pairwise(widths)]
        biases = [torch.randn(n, generator=rng) / 2 for n in widths[1:]]
        first = [torch.randn(t, widths[1], generator=rng) / 2 for t in tables]
        mlps.append(PixelMLP(weights, *first, biases[1:]))
    feature = torch.randn(case.batch, case.channels, h, w, generator=rng)
    image = torch.rand(case.batch, case.outputs, h, w, generator=rng) if case.image else None
    class_map = class_maps(case)[classes]
    rows, cols = places(h, height), places(w, width)
    return Inputs(feature, class_map, mlps, rows, cols, image).to(dtype)


def class_maps(case: Case) -> dict[str, Tensor | None]:
    """Classes of all pixels: any, one for all, a single pixel of its own, none of the MLPs'."""
    shape, count = (case.batch, *case.hr), len(case.hidden)
    rng = torch.Generator().manual_seed(7)
    lonely = torch.zeros(shape, dtype=torch.uint8)
    lonely[-1, -1, 0] = count - 1
    return {
        "random": torch.randint(0, count, shape, generator=rng).to(torch.uint8),
        "none": None,
        "all light": torch.zeros(shape, dtype=torch.uint8),
        "all heavy": torch.full(shape, count - 1, dtype=torch.uint8),
        "one heavy": lonely,
        "beyond": torch.randint(0, count + 1, shape, generator=rng).to(torch.uint8),
    }


def route(given: Inputs) -> Tensor:
    """The op, pixel by pixel."""
    batch, _, h, w = given.feature.shape
    height, width = given.rows.numel(), given.cols.numel()
    outputs = given.mlps[0].weights[-1].shape[0]
    out = []
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                value = given.feature.new_zeros(outputs)
                j = 0 if given.class_map is None else int(given.class_map[b, y, x])
                row, col = float(given.rows[y]), float(given.cols[x])
                if j < len(given.mlps):
                    near = (min(max(round(row), 0), h - 1), min(max(round(col), 0), w - 1))
                    value = _mlp(given.mlps[j], given.feature[b, :, near[0], near[1]], y, x)
                if given.image is not None:
                    value = value + _bilinear(given.image[b], row, col)
                out.append(value)
    return torch.stack(out).view(batch, height, width, outputs).permute(0, 3, 1, 2)


def _mlp(mlp: PixelMLP, vector: Tensor, y: int, x: int) -> Tensor:
    a = mlp.weights[0] @ vector
    a = a + mlp.row_bias[y % len(mlp.row_bias)] + mlp.col_bias[x % len(mlp.col_bias)]
    for weight, bias in zip(mlp.weights[1:], mlp.biases, strict=True):
        a = weight @ a.relu() + bias
    return a


def _bilinear(image: Tensor, row: float, col: float) -> Tensor:
    total = torch.zeros_like(image[:, 0, 0])
    for y, share in _taps(row, image.shape[1]):
        for x, part in _taps(col, image.shape[2]):
            total = total + share * part * image[:, y, x]
    return total


def _taps(place: float, length: int) -> list[tuple[int, float]]:
    inside = min(max(place, 0.0), length - 1.0)
    low = math.floor(inside)
    return [(low, 1 - (inside - low)), (min(low + 1, length - 1), inside - low)]


def average(image: Tensor, class_map: Tensor, min_heavy: int, first_heavy: int) -> Tensor:
    """The refinement, pixel by pixel."""
    out = image.clone()
    heavy = class_map >= first_heavy
    for b in range(image.shape[0]):
        for y in range(1, image.shape[2] - 1):
            for x in range(1, image.shape[3] - 1):
                around = (b, slice(y - 1, y + 2), slice(x - 1, x + 2))
                if not heavy[b, y, x] and heavy[around].sum() >= min_heavy:
                    window = image[b, :, y - 1 : y + 2, x - 1 : x + 2]
                    out[b, :, y, x] = window.flatten(1).mean(1)
    return out
