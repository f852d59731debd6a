"""Training batches whose LR is made of each HR crop, at one scale or at many."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from sparsesr.data.batches import StepBatches
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


class _Place(NamedTuple):
    """A crop to cut: which photograph, where, and turned how (see `augment`)."""

    image: int
    y: int
    x: int
    side: int
    code: int


class CropBatches(StepBatches[tuple[torch.Tensor, "torch.Tensor | Queries"]]):
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
        part: (index, count): that slice of each batch alone, see `StepBatches`.
    Raises:
        ValueError: a crop larger than an image, a non-positive number, an impossible part.
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
        part: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__(
            images, lr_crop=lr_crop, batch=batch, steps=steps, seed=seed, rank=rank, part=part
        )
        self.largest = round(lr_crop * (images.scale if scales is None else scales[1]))
        text = f"lr_crop {lr_crop} needs {self.largest} HR px, {{path}} is {{size}}"
        self.require_size(self.largest, images.hr, text)
        self.scales = scales

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor | Queries]:
        """The batch of `step`; the same step always gives the same batch."""
        rng = self.random(step)
        if self.scales is None:
            places = [self._draw(rng, self.largest) for _ in range(self.batch)]
            hr = torch.stack([self._cut(place) for place in places[self.samples]])
            return self._reduce(hr), hr
        sides = [round(self.lr_crop * rng.uniform(*self.scales)) for _ in range(self.batch)]
        places = [self._draw(rng, side) for side in sides]
        count = round(self.lr_crop * self.scales[0]) ** 2
        # What later samples would draw changes nothing for these.
        drawn = [rng.choice(n * n, count, replace=False) for n in sides[: self.samples.stop]]
        chosen = [torch.from_numpy(pixels) for pixels in drawn[self.samples]]
        sides = sides[self.samples]
        crops = [self._cut(place) for place in places[self.samples]]
        lr = torch.stack([self._reduce(crop) for crop in crops])
        pairs = list(zip(crops, chosen, sides, strict=True))
        colours = torch.stack([crop.flatten(1)[:, pixels] for crop, pixels, _ in pairs])
        centres = torch.stack([_centres(pixels, side) for _, pixels, side in pairs])
        cells = torch.tensor([[2 / side] * 2 for side in sides])
        return lr, Queries(colours, centres, cells)

    def _draw(self, rng: np.random.Generator, side: int) -> _Place:
        """A random crop of a random photograph, turned at random."""
        image = int(rng.integers(len(self.images)))
        y, x = (int(rng.integers(n - side + 1)) for n in self.images.hr[image].shape[1:])
        return _Place(image, y, x, side, int(rng.integers(8)))

    def _cut(self, place: _Place) -> torch.Tensor:
        """The crop at a place: [3,side,side] in [0,1]."""
        image, y, x, side, code = place
        crop = augment(self.images.hr[image][:, y : y + side, x : x + side], code)
        return torch.from_numpy(np.ascontiguousarray(crop)).float().div_(255)

    def _reduce(self, hr: torch.Tensor) -> torch.Tensor:
        return imresize(hr, size=(self.lr_crop, self.lr_crop))


def _centres(pixels: torch.Tensor, side: int) -> torch.Tensor:
    rows_cols = torch.stack([pixels // side, pixels % side], dim=1)
    return -1 + 1 / side + 2 / side * rows_cols.float()
