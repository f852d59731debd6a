"""Loop oracles of the patch ops, written from the definition and sharing nothing with the package.

Tensors come in with any strides and dtype; sums are formed in float64 and rounded once at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor


def grid(height: int, width: int, p: int, stride: int) -> tuple[int, int]:
    def cells(length: int) -> int:
        return max(1, math.ceil((length - p) / stride) + 1)

    return cells(height), cells(width)


def select(mask: Tensor, k: int, largest: bool) -> Tensor:
    """The k best of every image: NaN last, then by float32 value, then by position."""
    rows = []
    for scores in mask.flatten(1).to(torch.float32).tolist():
        sign = -1.0 if largest else 1.0
        keys = [
            (math.isnan(s), 0.0 if math.isnan(s) else sign * s, i) for i, s in enumerate(scores)
        ]
        rows.append(sorted(i for _, _, i in sorted(keys)[:k]))
    return torch.tensor(rows, dtype=torch.int32).reshape(mask.shape[0], k)


def pixels(
    index: Tensor, height: int, width: int, p: int, halo: int, stride: int
) -> Iterator[tuple[int, int, int, int, int, int]]:
    """(image, slot, u, v, y, x) of every window pixel that lies on the map, in slot order."""
    _, gw = grid(height, width, p, stride)
    side = p + 2 * halo
    for b, row in enumerate(index.tolist()):
        for j, cell in enumerate(row):
            for u in range(side):
                for v in range(side):
                    y = cell // gw * stride - halo + u
                    x = cell % gw * stride - halo + v
                    if 0 <= y < height and 0 <= x < width:
                        yield b, b * len(row) + j, u, v, y, x


def gather(x: Tensor, index: Tensor, p: int, halo: int, stride: int) -> Tensor:
    side = p + 2 * halo
    out = torch.zeros(index.numel(), x.shape[1], side, side, dtype=x.dtype)
    for b, n, u, v, y, c in pixels(index, *x.shape[2:], p, halo, stride):
        out[n, :, u, v] = x[b, :, y, c]
    return out


def gather_backward(
    grad: Tensor, index: Tensor, height: int, width: int, p: int, halo: int, stride: int
) -> Tensor:
    total = torch.zeros(index.shape[0], grad.shape[1], height, width, dtype=torch.float64)
    for b, n, u, v, y, x in pixels(index, height, width, p, halo, stride):
        total[b, :, y, x] += grad[n, :, u, v].double()
    return total


def scatter(
    canvas: Tensor, patches: Tensor, index: Tensor, p: int, stride: int, reduce: str
) -> Tensor:
    """``replace`` in the canvas's dtype (a copy), ``mean`` in float64."""
    covering = list(pixels(index, *canvas.shape[2:], p, 0, stride))
    if reduce == "replace":
        out = canvas.clone()
        for b, n, u, v, y, x in covering:
            out[b, :, y, x] = patches[n, :, u, v]
        return out
    total = torch.zeros(canvas.shape, dtype=torch.float64)
    count = torch.zeros(canvas.shape, dtype=torch.float64)
    for b, n, u, v, y, x in covering:
        total[b, :, y, x] += patches[n, :, u, v].double()
        count[b, :, y, x] += 1
    return torch.where(count > 0, total / count.clamp(min=1), canvas.double())


def scatter_backward(
    grad: Tensor, index: Tensor, p: int, stride: int, reduce: str
) -> tuple[Tensor, Tensor]:
    covering = list(pixels(index, *grad.shape[2:], p, 0, stride))
    last, count = {}, {}
    for b, n, _, _, y, x in covering:
        last[b, y, x] = n
        count[b, y, x] = count.get((b, y, x), 0) + 1
    grad_canvas = grad.double().clone()
    grad_patches = torch.zeros(index.numel(), grad.shape[1], p, p, dtype=torch.float64)
    for b, n, u, v, y, x in covering:
        if reduce == "mean":
            grad_patches[n, :, u, v] = grad[b, :, y, x].double() / count[b, y, x]
        elif last[b, y, x] == n:
            grad_patches[n, :, u, v] = grad[b, :, y, x].double()
        grad_canvas[b, :, y, x] = 0
    return grad_canvas, grad_patches
