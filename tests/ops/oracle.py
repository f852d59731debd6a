"""Loops that say what the patch ops mean, one pixel at a time, and the cases they are run on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Case:
    """A map, a patch geometry and how many patches are chosen."""

    batch: int
    channels: int
    height: int
    width: int
    patch: int
    halo: int
    stride: int
    k: int

    @property
    def grid(self) -> tuple[int, int]:
        def cells(length: int) -> int:
            return max(1, math.ceil((length - self.patch) / self.stride) + 1)

        return cells(self.height), cells(self.width)

    def __str__(self) -> str:
        return (
            f"{self.batch}x{self.channels}x{self.height}x{self.width}"
            f"-p{self.patch}h{self.halo}s{self.stride}-k{self.k}"
        )


CASES = [
    Case(1, 3, 8, 8, 4, 1, 4, 4),  # all patches
    Case(2, 12, 9, 14, 4, 1, 4, 5),  # no side a multiple of p
    Case(2, 5, 3, 2, 4, 2, 4, 1),  # smaller than a patch
    Case(1, 1, 1, 1, 4, 1, 4, 1),  # one pixel
    Case(1, 16, 10, 11, 4, 1, 2, 7),  # overlapping
    Case(3, 2, 13, 7, 5, 0, 3, 4),  # overlapping, odd
    Case(1, 4, 11, 11, 2, 3, 5, 6),  # gaps between patches
    Case(1, 64, 12, 12, 8, 1, 8, 3),
    Case(2, 3, 6, 6, 2, 0, 2, 0),  # no patch
    Case(1, 7, 5, 33, 3, 1, 1, 20),  # dense overlap
]


def corners(case: Case, index: Tensor) -> list[list[tuple[int, int]]]:
    """Top-left pixel of every chosen patch."""
    gw = case.grid[1]
    return [
        [((i // gw) * case.stride, (i % gw) * case.stride) for i in row] for row in index.tolist()
    ]


def gather(case: Case, x: Tensor, index: Tensor) -> Tensor:
    """Windows read pixel by pixel."""
    side = case.patch + 2 * case.halo
    out = torch.zeros(index.numel(), x.shape[1], side, side, dtype=x.dtype)
    for b, row in enumerate(corners(case, index)):
        for j, (y, z) in enumerate(row):
            for u in range(side):
                for v in range(side):
                    r, c = y + u - case.halo, z + v - case.halo
                    if 0 <= r < x.shape[2] and 0 <= c < x.shape[3]:
                        out[b * index.shape[1] + j, :, u, v] = x[b, :, r, c]
    return out


def scatter(case: Case, canvas: Tensor, patches: Tensor, index: Tensor, reduce: str) -> Tensor:
    """Patches written or averaged pixel by pixel."""
    out = canvas.clone()
    total, count = torch.zeros_like(canvas), torch.zeros_like(canvas)
    for b, row in enumerate(corners(case, index)):
        for j, (y, z) in enumerate(row):
            for u in range(case.patch):
                for v in range(case.patch):
                    r, c = y + u, z + v
                    if r < canvas.shape[2] and c < canvas.shape[3]:
                        value = patches[b * index.shape[1] + j, :, u, v]
                        out[b, :, r, c] = value
                        total[b, :, r, c] += value
                        count[b, :, r, c] += 1
    if reduce == "mean":
        out = torch.where(count > 0, total / count.clamp(min=1), canvas)
    return out


def select(scores: Tensor, k: int, largest: bool) -> Tensor:
    """Python's stable sort with the rules spelled out."""
    rows = []
    for row in scores.flatten(1).float().tolist():

        def rank(i: int, row: list[float] = row) -> tuple[bool, float]:
            value = row[i]
            if math.isnan(value):
                return True, 0.0
            return False, -value if largest else value

        rows.append(sorted(sorted(range(len(row)), key=rank)[:k]))
    return torch.tensor(rows, dtype=torch.int32).reshape(scores.shape[0], k)


def random_index(case: Case, seed: int = 0) -> Tensor:
    """k distinct patches per image, ascending."""
    gh, gw = case.grid
    generator = torch.Generator().manual_seed(seed)
    rows = [
        torch.randperm(gh * gw, generator=generator)[: case.k].sort().values
        for _ in range(case.batch)
    ]
    return torch.stack(rows).to(torch.int32)


def layouts(x: Tensor) -> dict[str, Tensor]:
    """Copies of the values in every memory layout a caller may bring."""
    b, c, h, w = x.shape
    wide = torch.full((b, c + 2, h + 3, w + 5), 7.0, dtype=x.dtype, device=x.device)
    wide[:, 1 : c + 1, 2 : h + 2, 3 : w + 3] = x
    tall = wide.clone(memory_format=torch.channels_last)
    return {
        "contiguous": x.clone(memory_format=torch.contiguous_format),
        "channels_last": x.clone(memory_format=torch.channels_last),
        "slice": wide[:, 1 : c + 1, 2 : h + 2, 3 : w + 3],
        "channels_last slice": tall[:, 1 : c + 1, 2 : h + 2, 3 : w + 3],
        "transposed": x.transpose(2, 3)
        .clone(memory_format=torch.contiguous_format)
        .transpose(2, 3),
    }
