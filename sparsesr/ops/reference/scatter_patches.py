"""Reference of ``scatter_patches`` and its adjoint."""

from __future__ import annotations

import torch
from torch import Tensor

from .._layout import memory_format_of
from ._windows import accumulation_dtype, check_index_distinct, window_pixels


def scatter_patches(
    canvas: Tensor,  # [B, C, Hc, Wc]
    patches: Tensor,  # [B*k, C, p, p]
    index: Tensor,  # [B, k] int32
    patch_size: int,
    stride: int,
    reduce: str,
) -> Tensor:
    """``canvas`` with the patches written ("replace") or averaged ("mean") where they lie."""
    batch, channels, height, width = canvas.shape
    if index.numel() == 0:
        return canvas.clone(memory_format=memory_format_of(canvas))
    cover = _Coverage(index, height, width, patch_size, stride)
    rows = patches.permute(0, 2, 3, 1).reshape(
        batch, cover.target.shape[1], channels
    )  # [B, k*p*p, C]
    flat = canvas.flatten(2).transpose(1, 2)  # [B, Hc*Wc, C]
    if reduce == "replace":
        winner = cover.last_writer()  # [B, Hc*Wc], -1 where no patch lies
        image = torch.arange(batch, device=canvas.device)[:, None]
        flat = torch.where(winner[..., None] >= 0, rows[image, winner.clamp(min=0)], flat)
    else:
        dtype = accumulation_dtype(canvas.dtype)
        count = cover.count().to(dtype)[..., None]  # [B, Hc*Wc, 1]
        mean = cover.add(rows.to(dtype)) / count.clamp(min=1)
        flat = torch.where(count > 0, mean.to(canvas.dtype), flat)
    out = flat.transpose(1, 2).reshape(batch, channels, height, width)
    return out.contiguous(memory_format=memory_format_of(canvas))


def scatter_patches_(
    canvas: Tensor,  # [B, C, Hc, Wc], written
    patches: Tensor,
    index: Tensor,
    patch_size: int,
    stride: int,
    reduce: str,
) -> None:
    """``scatter_patches`` in place."""
    canvas.copy_(scatter_patches(canvas, patches, index, patch_size, stride, reduce))


def scatter_patches_backward(
    grad: Tensor,  # [B, C, Hc, Wc]
    index: Tensor,  # [B, k] int32
    patch_size: int,
    stride: int,
    reduce: str,
) -> tuple[Tensor, Tensor]:
    """Adjoint of ``scatter_patches``: gradients of canvas [B,C,Hc,Wc] and patches [B*k,C,p,p]."""
    batch, channels, height, width = grad.shape
    cover = _Coverage(index, height, width, patch_size, stride)
    flat = grad.flatten(2).transpose(1, 2)  # [B, Hc*Wc, C]
    count = cover.count()[..., None]
    grad_canvas = flat.where(count == 0, 0)
    weighted = flat if reduce == "replace" else flat / count.clamp(min=1).to(flat.dtype)
    image = torch.arange(batch, device=grad.device)[:, None]
    rows = weighted[image, cover.target.clamp(max=height * width - 1)]  # [B, k*p*p, C]
    rows = rows.where(cover.inside[..., None], 0)
    if reduce == "replace":
        rows = rows.where(cover.wins()[..., None], 0)
    fmt = memory_format_of(grad)
    grad_canvas = grad_canvas.transpose(1, 2).reshape(batch, channels, height, width)
    grad_patches = rows.reshape(index.numel(), patch_size, patch_size, channels).permute(0, 3, 1, 2)
    return (
        grad_canvas.contiguous(memory_format=fmt),
        grad_patches.contiguous(memory_format=fmt),
    )


class _Coverage:
    """Which patch pixels land where: one flat list of k*p*p candidates per image."""

    def __init__(
        self, index: Tensor, height: int, width: int, patch_size: int, stride: int
    ) -> None:
        check_index_distinct(index)
        pixel, inside = window_pixels(index, height, width, patch_size, 0, stride)
        self.pixels = height * width
        self.inside = inside.flatten(1)  # [B, k*p*p]
        # What falls outside the map goes to one extra pixel that is cut off again.
        self.target = pixel.flatten(1).masked_fill(~self.inside, self.pixels)

    def count(self) -> Tensor:
        """Patches over every pixel, [B, Hc*Wc] int64."""
        one = torch.ones_like(self.target)
        return self._zeros(1, torch.int64)[..., 0].scatter_add(1, self.target, one)[:, :-1]

    def add(self, rows: Tensor) -> Tensor:
        """Sum of ``rows`` [B, k*p*p, C] over every pixel, [B, Hc*Wc, C]."""
        where = self.target[..., None].expand_as(rows)
        return self._zeros(rows.shape[2], rows.dtype).scatter_add(1, where, rows)[:, :-1]

    def last_writer(self) -> Tensor:
        """The last candidate of every pixel, [B, Hc*Wc] int64, -1 where there is none."""
        candidate = torch.arange(self.target.shape[1], device=self.target.device)
        none = torch.full_like(self._zeros(1, torch.int64)[..., 0], -1)
        candidate = candidate.expand_as(self.target)
        return none.scatter_reduce(1, self.target, candidate, "amax")[:, :-1]

    def wins(self) -> Tensor:
        """Whether a candidate is the last writer of its pixel, [B, k*p*p] bool."""
        winner = torch.nn.functional.pad(self.last_writer(), (0, 1), value=-1)
        candidate = torch.arange(self.target.shape[1], device=self.target.device)
        return winner.gather(1, self.target) == candidate

    def _zeros(self, channels: int, dtype: torch.dtype) -> Tensor:
        shape = (self.target.shape[0], self.pixels + 1, channels)
        return torch.zeros(shape, dtype=dtype, device=self.target.device)
