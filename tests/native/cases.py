"""Awkward maps for the patch ops: sizes, strides between patches, memory layouts, dtypes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tests.native import oracle

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
LAYOUTS = ("nchw", "channels_last", "cropped", "channel_slice", "channels_last_slice", "transposed")
# A unit in the last place or so: sums are formed in float32 (float64) and rounded once.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float64: 1e-14}


@dataclass(frozen=True)
class Case:
    """A map, its patches, and which of them are meant."""

    batch: int
    channels: int
    height: int
    width: int
    p: int
    halo: int
    stride: int
    k: float  # share of the grid

    def __str__(self) -> str:
        size = f"{self.batch}x{self.channels}x{self.height}x{self.width}"
        return f"{size}-p{self.p}h{self.halo}s{self.stride}-k{self.k:g}"

    @property
    def cells(self) -> int:
        gh, gw = oracle.grid(self.height, self.width, self.p, self.stride)
        return gh * gw

    def map(self, dtype: torch.dtype = torch.float32, layout: str = "nchw") -> Tensor:
        """The same values whatever the layout."""
        return random((self.batch, self.channels, self.height, self.width), dtype, layout, seed=0)

    def index(self) -> Tensor:
        """[B, k] distinct patches per image, in no order."""
        k = round(self.k * self.cells)
        draw = torch.Generator().manual_seed(self.cells)
        rows = [torch.randperm(self.cells, generator=draw)[:k] for _ in range(self.batch)]
        return torch.stack(rows).to(torch.int32)

    def patches(self, dtype: torch.dtype, layout: str = "nchw", halo: int | None = None) -> Tensor:
        side = self.p + 2 * (self.halo if halo is None else halo)
        return random((self.index().numel(), self.channels, side, side), dtype, layout, seed=1)


CASES = [
    Case(1, 1, 1, 1, p=4, halo=1, stride=4, k=1),
    Case(1, 3, 7, 9, p=4, halo=1, stride=4, k=0.5),
    Case(2, 16, 12, 8, p=4, halo=1, stride=4, k=1),
    Case(2, 5, 3, 2, p=8, halo=2, stride=8, k=1),
    Case(1, 12, 13, 21, p=2, halo=1, stride=2, k=0.2),
    Case(1, 4, 8, 8, p=4, halo=0, stride=4, k=0),
    Case(2, 3, 11, 10, p=4, halo=1, stride=2, k=0.7),
    Case(1, 8, 9, 9, p=5, halo=2, stride=3, k=1),
    Case(1, 2, 17, 14, p=3, halo=0, stride=1, k=0.6),
    Case(2, 3, 10, 13, p=2, halo=1, stride=5, k=1),
    Case(1, 6, 6, 6, p=1, halo=0, stride=4, k=1),
    Case(1, 64, 16, 12, p=8, halo=1, stride=8, k=0.75),
    Case(1, 3, 33, 20, p=16, halo=0, stride=16, k=0.5),
]
each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_layout = pytest.mark.parametrize("layout", LAYOUTS)


def random(shape: tuple[int, ...], dtype: torch.dtype, layout: str, seed: int) -> Tensor:
    """Normal values with the given strides; the memory between them holds NaN."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    n, c, h, w = shape
    if layout == "nchw":
        return values
    if layout == "channels_last":
        return values.contiguous(memory_format=torch.channels_last)
    if layout == "cropped":
        outer = torch.full((n, h + 3, w + 2, c), torch.nan, dtype=dtype)
        place = outer.permute(0, 3, 1, 2)[:, :, 1 : h + 1, 2 : w + 2]
    elif layout == "channel_slice":
        place = torch.full((n, 2 * c, h, w), torch.nan, dtype=dtype)[:, ::2]
    elif layout == "channels_last_slice":
        place = torch.full((n, h, w, 2 * c + 1), torch.nan, dtype=dtype)[..., 1 : c + 1]
        place = place.permute(0, 3, 1, 2)
    else:
        place = torch.full((n, c, w, h), torch.nan, dtype=dtype).transpose(2, 3)
    return place.copy_(values)


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    """Equal values, no tolerance."""
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=0, atol=0)


def assert_rounded(actual: Tensor, expected: Tensor) -> None:
    """Equal to the exact (float64) result up to the accumulator's rounding."""
    tolerance = TOLERANCE[actual.dtype]
    torch.testing.assert_close(actual.double(), expected.double(), rtol=tolerance, atol=tolerance)
