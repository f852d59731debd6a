"""Training batches whose LR is made of each HR crop, at one scale or at many."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from sparsesr.data.hr_folder import HRFolder
from sparsesr.data.patches import augment
from sparsesr.metrics import imresize


class Queries(NamedTuple):
    """Single HR pixels of a batch.

    Attributes:
        colours: [N,3,Q] in [0,1].
        places: their centres, rows first, in an image that spans [-1, 1], [N,Q,2].
        cells: size of a pixel in that image, [N,2].
    """

    colours: torch.Tensor
    places: torch.Tensor
    cells: torch.Tensor


class CropBatches(Dataset[tuple[torch.Tensor, "torch.Tensor | Queries"]]):
    """Map-style dataset over *steps*: item `step` is one whole batch.

    HR crops are cut from the photographs, turned as in `PatchBatches`, and reduced by MATLAB's
    bicubic in float: LR [N,3,h,w], h = w = `lr_crop`, neither rounded nor clamped. At one scale the
    second item is HR [N,3,s*h,s*w]. With `scales` each sample has a scale of its own, uniform in
    that range; its HR side is round(s*h), and the second item is `Queries` of (h * scales[0])^2
    pixels, drawn without repetition. Batches are a pure function of (seed, rank, step).

    Args:
        images: decoded photographs. lr_crop: side of the LR crop. batch: samples per step.
        steps: length of the dataset. seed, rank: non-negative ints.
        scales: (lowest, highest), or None for the photographs' scale.
    Raises:
        ValueError: a crop larger than an image, or a non-positive number.
    Source: PCSR (Jeong et al., ECCV 2024), training settings and Table 5.
    """

    def __init__(
        self,
        images: HRFolder,
        *,
        lr_crop: int,
        batch: int,
        steps: int,
        scales: tuple[float, float] | None = None,
        seed: int = 0,
        rank: int = 0,
    ) -> None:
        for name, value in (("lr_crop", lr_crop), ("batch", batch), ("steps", steps)):
            if value < 1:
                raise ValueError(f"{name}: expected an int >= 1, got {value}")
        self.largest = round(lr_crop * (images.scale if scales is None else scales[1]))
        for path, image in zip(images.files, images.hr, strict=True):
            if min(image.shape[1:]) < self.largest:
                raise ValueError(
                    f"lr_crop {lr_crop} needs {self.largest} HR px, {path} is "
                    f"{image.shape[2]}x{image.shape[1]}: use a smaller lr_crop"
                )
        self.images = images
        self.lr_crop = lr_crop
        self.batch = batch
        self.steps = steps
        self.scales = scales
        self.seed = seed
        self.rank = rank

    def __len__(self) -> int:
        """Number of steps."""
        return self.steps

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor | Queries]:
        """The batch of `step`; the same step always gives the same batch."""
        rng = np.random.default_rng((self.seed, self.rank, step))
        if self.scales is None:
            hr = torch.stack([self._crop(rng, self.largest) for _ in range(self.batch)])
            return self._reduce(hr), hr
        sides = [round(self.lr_crop * rng.uniform(*self.scales)) for _ in range(self.batch)]
        crops = [self._crop(rng, side) for side in sides]
        lr = torch.stack([self._reduce(crop) for crop in crops])
        count = round(self.lr_crop * self.scales[0]) ** 2
        chosen = [torch.from_numpy(rng.choice(n * n, count, replace=False)) for n in sides]
        pairs = list(zip(crops, chosen, sides, strict=True))
        colours = torch.stack([crop.flatten(1)[:, pixels] for crop, pixels, _ in pairs])
        places = torch.stack([_centres(pixels, side) for _, pixels, side in pairs])
        cells = torch.tensor([[2 / side] * 2 for side in sides])
        return lr, Queries(colours, places, cells)

    def _crop(self, rng: np.random.Generator, side: int) -> torch.Tensor:
        """A random crop of a random photograph, turned at random: [3,side,side] in [0,1]."""
        image = self.images.hr[rng.integers(len(self.images))]
        y, x = (int(rng.integers(length - side + 1)) for length in image.shape[1:])
        crop = augment(image[:, y : y + side, x : x + side], int(rng.integers(8)))
        return torch.from_numpy(np.ascontiguousarray(crop)).float().div_(255)

    def _reduce(self, hr: torch.Tensor) -> torch.Tensor:
        return imresize(hr, size=(self.lr_crop, self.lr_crop))


def _centres(pixels: torch.Tensor, side: int) -> torch.Tensor:
    rows_cols = torch.stack([pixels // side, pixels % side], dim=1)
    return -1 + 1 / side + 2 / side * rows_cols.float()
