"""What training batches have in common: a batch is a pure function of (seed, rank, step)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from torch.utils.data import Dataset

from sparsesr.data.hr_folder import HRFolder

Batch = TypeVar("Batch")


class StepBatches(Dataset[Batch]):
    """Map-style dataset over *steps*: item `step` is one whole batch, or one part of it.

    Random numbers come from a generator seeded with (seed, rank, step), nothing else: training that
    resumes at a step sees exactly the batches it would have seen.

    Args:
        images: decoded photographs.
        lr_crop: side of the LR crop in pixels. batch: samples per step.
        steps: length of the dataset. seed, rank: non-negative ints.
        part: (index, count): items are only this slice of each batch, of batch / count samples. All
            parts in their order are exactly the batch of part (0, 1).
    Raises:
        ValueError: a non-positive number, or a batch that cannot be parted so.
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
        for name, value in (("lr_crop", lr_crop), ("batch", batch), ("steps", steps)):
            if value < 1:
                raise ValueError(f"{name}: expected an int >= 1, got {value}")
        index, count = part
        if not 0 <= index < count:
            raise ValueError(f"part: expected (index, count) with 0 <= index < count, got {part}")
        if batch % count:
            raise ValueError(
                f"part: {count} parts do not divide a batch of {batch}; change the batch"
            )
        self.images = images
        self.lr_crop = lr_crop
        self.batch = batch
        self.steps = steps
        self.seed = seed
        self.rank = rank
        self.part = part

    def __len__(self) -> int:
        """Number of steps."""
        return self.steps

    @property
    def samples(self) -> slice:
        """Which samples of a batch belong to the part."""
        index, count = self.part
        return slice(index * self.batch // count, (index + 1) * self.batch // count)

    def random(self, step: int) -> np.random.Generator:
        """The generator of a step; every part draws what the whole batch needs."""
        return np.random.default_rng((self.seed, self.rank, step))

    def require_size(self, side: int, arrays: list[np.ndarray], text: str) -> None:
        """ValueError for an image of `arrays` [3,H,W] smaller than `side`.

        `text`: has the file as {path} and the size as {size}.
        """
        for path, array in zip(self.images.files, arrays, strict=True):
            if min(array.shape[1:]) < side:
                size = f"{array.shape[2]}x{array.shape[1]}"
                raise ValueError(text.format(path=path, size=size) + ": use a smaller lr_crop")
