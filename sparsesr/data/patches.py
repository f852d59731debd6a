"""Training batches as a pure function of (seed, step, rank)."""

from __future__ import annotations

import numpy as np
import torch

from sparsesr.data.batches import StepBatches
from sparsesr.data.hr_folder import HRFolder

Batch = tuple[torch.Tensor, torch.Tensor]


class PatchBatches(StepBatches[Batch]):
    """Map-style dataset over *steps*: item `step` is one whole batch.

    `batches[step]` -> (lr [N,3,h,w], hr [N,3,s*h,s*w]), float32 in [0,1], h = w = `lr_crop`.
    Crops are drawn from a generator seeded with (seed, rank, step), nothing else: training that
    resumes at a step sees exactly the batches it would have seen. Each sample is flipped
    horizontally, flipped vertically and rotated by 90 degrees with probability one half each.

    Args:
        images: decoded photographs.
        lr_crop: side of the LR crop in pixels. batch: samples per step.
        steps: length of the dataset. seed, rank: non-negative ints.
        part: (index, count): that slice of each batch alone, see `StepBatches`.
    Raises:
        ValueError: a crop larger than an image, a non-positive number, an impossible part.
    """

    def __init__(
        self,
        images: HRFolder,
        *,
        lr_crop: int,
        batch: int,
        steps: int,
        seed: int = 0,
        rank: int = 0,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__(
            images, lr_crop=lr_crop, batch=batch, steps=steps, seed=seed, rank=rank, part=part
        )
        text = f"lr_crop {lr_crop} does not fit {{path}}, whose LR image at scale {images.scale} is"
        self.require_size(lr_crop, images.lr, text + " {size}")

    def __getitem__(self, step: int) -> Batch:
        """The batch of `step`; the same step always gives the same batch."""
        scale, size = self.images.scale, self.lr_crop
        rng = self.random(step)
        chosen = rng.integers(len(self.images), size=self.batch)[self.samples]
        corner = rng.random((self.batch, 2))[self.samples]
        codes = rng.integers(8, size=self.batch)[self.samples]
        lr = np.empty((len(chosen), 3, size, size), np.uint8)
        hr = np.empty((len(chosen), 3, size * scale, size * scale), np.uint8)
        for n in range(len(chosen)):
            lr_image, hr_image = self.images.lr[chosen[n]], self.images.hr[chosen[n]]
            y = int(corner[n, 0] * (lr_image.shape[1] - size + 1))
            x = int(corner[n, 1] * (lr_image.shape[2] - size + 1))
            code = int(codes[n])
            lr[n] = augment(lr_image[:, y : y + size, x : x + size], code)
            y, x, side = y * scale, x * scale, size * scale
            hr[n] = augment(hr_image[:, y : y + side, x : x + side], code)
        return _to_unit(lr), _to_unit(hr)


def augment(image: np.ndarray, code: int) -> np.ndarray:
    """`image` [C,H,W] under one of the square's 8 symmetries (a view).

    Bit 0 of `code`: horizontal flip; bit 1: vertical flip; bit 2: then rotate by 90 degrees.
    """
    if code & 1:
        image = image[:, :, ::-1]
    if code & 2:
        image = image[:, ::-1]
    if code & 4:
        image = np.rot90(image, axes=(1, 2))
    return image


def _to_unit(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).float().div_(255)
