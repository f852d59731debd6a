"""Reference of ``route_mlp``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .._classes import per_class
from .._layout import memory_format_of

# Hidden values held at a time: memory must not grow with pixels x features.
_CHUNK = 2**21


def route_mlp(
    feature: Tensor,  # [B, C, h, w]
    class_map: Tensor | None,  # [B, H, W] uint8
    weights: Sequence[Tensor],  # of class 0, then of class 1, ...: [N1, C], [N2, N1], ..., [O, N]
    row_bias: Sequence[Tensor],  # M of [Th, N1]
    col_bias: Sequence[Tensor],  # M of [Tw, N1]
    biases: Sequence[Tensor],  # of class 0, then of class 1, ...: [N2], ..., [O]
    layers: Sequence[int],  # M
    rows: Tensor,  # [H] float32
    cols: Tensor,  # [W] float32
    image: Tensor | None,  # [B, O, h, w]
) -> Tensor:
    """Every HR pixel through the MLP of its class, over the interpolated image: [B, O, H, W]."""
    batch, height, width = feature.shape[0], rows.numel(), cols.numel()
    outputs = weights[-1].shape[0]
    indices, values = [], []
    place = _Places(feature, rows, cols)
    for j, (own, later) in enumerate(per_class(weights, biases, layers)):
        if class_map is None:
            chosen = torch.arange(batch * height * width if j == 0 else 0, device=feature.device)
        else:
            chosen = (class_map == j).flatten().nonzero()[:, 0]
        at_lr = F.conv2d(feature, own[0][:, :, None, None]).permute(0, 2, 3, 1).flatten(0, 2)
        for pixels in _chunks(chosen, max(weight.shape[0] for weight in own)):
            source, y, x = place(pixels)
            a = at_lr[source] + row_bias[j][y % row_bias[j].shape[0]]
            a = a + col_bias[j][x % col_bias[j].shape[0]]
            for weight, bias in zip(own[1:], later, strict=True):
                a = F.linear(a.relu(), weight, bias)
            indices.append(pixels)
            values.append(a)
    if image is None:
        start = feature.new_zeros(batch, height, width, outputs)
    else:
        start = interpolate(image, rows, cols).permute(0, 2, 3, 1)
    flat = start.reshape(-1, outputs)
    if values:
        flat = flat.index_add(0, torch.cat(indices), torch.cat(values))
    out = flat.view(batch, height, width, outputs).permute(0, 3, 1, 2)
    return out.contiguous(memory_format=memory_format_of(feature))


def route_mlp_everywhere(
    feature: Tensor,
    class_map: Tensor | None,
    weights: Sequence[Tensor],
    row_bias: Sequence[Tensor],
    col_bias: Sequence[Tensor],
    biases: Sequence[Tensor],
    layers: Sequence[int],
    rows: Tensor,
    cols: Tensor,
    image: Tensor | None,
) -> Tensor:
    """The same with every MLP at every pixel, of which the class keeps one.

    No shape depends on the classes, so that a compiler can trace it: the gradient is taken of this.
    """
    device = feature.device
    near_row = rows.round().long().clamp(0, feature.shape[2] - 1)
    near_col = cols.round().long().clamp(0, feature.shape[3] - 1)
    y = torch.arange(rows.shape[0], device=device)
    x = torch.arange(cols.shape[0], device=device)
    out: Tensor | None = None if image is None else interpolate(image, rows, cols)
    for j, (own, later) in enumerate(per_class(weights, biases, layers)):
        if class_map is None and j > 0:
            break
        at_lr = F.conv2d(feature, own[0][:, :, None, None])
        a = at_lr.index_select(2, near_row).index_select(3, near_col)
        a = a + row_bias[j].index_select(0, y % row_bias[j].shape[0]).t()[:, :, None]
        a = a + col_bias[j].index_select(0, x % col_bias[j].shape[0]).t()[:, None, :]
        for weight, bias in zip(own[1:], later, strict=True):
            a = F.conv2d(a.relu(), weight[:, :, None, None], bias)
        if class_map is not None:
            a = a.where((class_map == j)[:, None], 0)
        out = a if out is None else out + a
    assert out is not None  # there is at least one MLP
    return out.contiguous(memory_format=memory_format_of(feature))


def interpolate(image: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """Bilinear values of ``image`` [B, O, h, w] at rows x cols, its border continued."""
    for dim, source in ((2, rows), (3, cols)):
        last = image.shape[dim] - 1
        inside = source.clamp(0, last)
        low = inside.floor().long()
        part = (inside - low).to(image.dtype).view(-1, *[1] * (3 - dim))
        below = image.index_select(dim, low)
        above = image.index_select(dim, (low + 1).clamp(max=last))
        image = below * (1 - part) + above * part
    return image


class _Places:
    """Where HR pixels lie: the nearest LR pixel, counted over the batch, and row and column."""

    def __init__(self, feature: Tensor, rows: Tensor, cols: Tensor) -> None:
        self.h, self.w = feature.shape[-2:]
        self.height, self.width = rows.numel(), cols.numel()
        self.near_row = rows.round().long().clamp(0, self.h - 1)
        self.near_col = cols.round().long().clamp(0, self.w - 1)

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = pixels % self.width
        line = pixels // self.width
        y = line % self.height
        b = line // self.height
        return (b * self.h + self.near_row[y]) * self.w + self.near_col[x], y, x


def _chunks(pixels: Tensor, width: int) -> Iterator[Tensor]:
    return (c for c in pixels.split(max(1, _CHUNK // width)) if len(c))
