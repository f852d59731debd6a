"""The maps, coverages and contenders that the benches of the patch ops share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparsesr.ops import patch_grid

PATCH_SIZE = 4
HALO = 1
LAYOUTS = {"NHWC": torch.channels_last, "NCHW": torch.contiguous_format}


@dataclass(frozen=True)
class Case:
    """One map and one number of patches."""

    channels: int
    height: int
    width: int
    layout: str
    k: int
    patch_size: int = PATCH_SIZE

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return patch_grid(self.height, self.width, self.patch_size)

    @property
    def coverage(self) -> float:
        """Chosen patches out of all."""
        rows, cols = self.grid
        return self.k / (rows * cols)

    def map(self) -> Tensor:
        """A random map [1,C,H,W] in the case's layout."""
        x = torch.randn(1, self.channels, self.height, self.width)
        return x.contiguous(memory_format=LAYOUTS[self.layout])

    def mask(self) -> Tensor:
        """Random scores [1,Gh,Gw]; float32, and so without ties."""
        rows, cols = self.grid
        return torch.randperm(rows * cols).float().view(1, rows, cols) / (rows * cols)

    def patches(self) -> Tensor:
        """Random patches [k,C,p,p] without halo, in the case's layout."""
        x = torch.randn(self.k, self.channels, self.patch_size, self.patch_size)
        return x.contiguous(memory_format=LAYOUTS[self.layout])

    @property
    def asked(self) -> bool:
        """Whether the CPU's speed targets of the patch ops are stated for this map."""
        return (self.channels, self.height, self.width, self.layout) == (64, 256, 256, "NHWC")

    @property
    def asked_of_gpu(self) -> bool:
        """Whether a GPU's are: 4K-class sizes, enough patches to fill it."""
        return self.height >= 540 and self.k >= 8100

    def __str__(self) -> str:
        return f"C{self.channels}-{self.width}x{self.height}-{self.layout}-K{self.k}"

    def as_dict(self) -> dict[str, Any]:
        """For raw rows."""
        return {
            "channels": self.channels,
            "height": self.height,
            "width": self.width,
            "layout": self.layout,
            "k": self.k,
            "coverage": self.coverage,
            "patch_size": self.patch_size,
        }

    def cells(self) -> dict[str, str]:
        """The columns that name the case in a table."""
        return {
            "C": str(self.channels),
            "map": f"{self.width}x{self.height}",
            "layout": self.layout,
            "K": str(self.k),
            "cover": f"{100 * self.coverage:.0f}%",
        }


def map_cases(quick: bool, gpu: bool) -> list[Case]:
    """Every map of the patch-op benches; one small one for a smoke run.

    On a GPU LR 480x270, 960x540 (4K at x4) and 1920x1080 (4K at x2).
    """
    if quick:
        return [Case(12, 30, 32, layout, 6) for layout in LAYOUTS]
    sizes = ((270, 480), (540, 960), (1080, 1920)) if gpu else ((256, 256), (270, 480))
    return [
        Case(channels, height, width, layout, k)
        for channels in (64, 12)
        for height, width in sizes
        for layout in LAYOUTS
        for k in ((1000, 4050, 8100) if gpu else (205, 410, 1024, 2048))
    ]
