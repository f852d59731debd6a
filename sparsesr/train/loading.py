"""From a recipe's folders to the batches of a stage, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from sparsesr.data import Batches, CropBatches, HRFolder, PatchBatches
from sparsesr.train import processes
from sparsesr.train.recipe import Recipe, RecipeError, StageConfig


def open_folder(recipe: Recipe) -> HRFolder:
    """The training images, decoded; where there are several processes, by the first of them."""
    with processes.first_alone():
        return HRFolder(list(recipe.data.train), recipe.scale, recipe.data.cache)


def part_batches(
    folder: HRFolder, recipe: Recipe, stage: StageConfig, part: tuple[int, int] = (0, 1)
) -> Batches:
    """Part `part[0]` of `part[1]` of the batches of all steps up to the end of `stage`."""
    options: dict[str, Any] = {
        "lr_crop": stage.lr_crop or recipe.data.lr_crop,
        "batch": stage.batch or recipe.data.batch,
        "steps": recipe.first_step(stage.name) + stage.iterations,
        "seed": recipe.seed,
        "part": part,
    }
    if recipe.data.lr == "image":
        return PatchBatches(folder, **options)
    return CropBatches(folder, scales=recipe.data.scales, **options)


class ProcessBatches(Dataset[Any]):
    """This process's share of a stage's batches, in `accumulate` parts a step.

    Item `step * accumulate + i` is part i of the share. The parts of all processes together are the
    batch that one process would take at once: the recipe's result does not depend on their number.

    Raises:
        RecipeError: a batch that does not divide by processes times `accumulate`.
        ValueError: a crop larger than an image.
    """

    def __init__(self, folder: HRFolder, recipe: Recipe, stage: StageConfig) -> None:
        each, batch = stage.accumulate, stage.batch or recipe.data.batch
        total = processes.count() * each
        if batch % total:
            raise RecipeError(
                f"stages.{stage.name}: a batch of {batch} does not divide into {total} parts "
                f"({processes.count()} processes, accumulate {each})"
            )
        first = processes.rank() * each
        self.parts = [part_batches(folder, recipe, stage, (first + i, total)) for i in range(each)]

    def __len__(self) -> int:
        """Parts of all steps."""
        return len(self.parts) * len(self.parts[0])

    def __getitem__(self, item: int) -> Any:
        """One part of one step."""
        step, i = divmod(item, len(self.parts))
        return self.parts[i][step]


def make_loader(
    folder: HRFolder, recipe: Recipe, stage: StageConfig, done: int = 0
) -> DataLoader[Any]:
    """This process's batches from step `done` of the stage to its end, in order."""
    batches = ProcessBatches(folder, recipe, stage)
    first = recipe.first_step(stage.name)
    items = range((first + done) * stage.accumulate, (first + stage.iterations) * stage.accumulate)
    workers = recipe.data.workers
    # Workers hand over tensors that a copy to the GPU may then overlap with.
    pin = workers > 0 and processes.uses_gpu(recipe.device)
    return DataLoader(batches, batch_size=None, sampler=items, num_workers=workers, pin_memory=pin)


@dataclass(frozen=True)
class Rates:
    """Steps per second of a stage.

    Attributes:
        loader: cutting batches alone. network: the same batch again and again. both: training.
    """

    loader: float
    network: float
    both: float

    def __str__(self) -> str:
        """One line, with the share of the time that the loader adds."""
        share = max(0.0, 1 - self.both / self.network)
        return (
            f"{self.both:.1f} it/s: {self.network:.1f} without the loader, the loader alone "
            f"{self.loader:.1f}; loading takes {100 * share:.0f}% of the time"
        )


def measure_rates(
    module: Any, loader: DataLoader[Any], steps: int, dtype: torch.dtype = torch.float32
) -> Rates:
    """Rates of `module` (a `StageModule`) over `steps` batches; its weights change.

    `dtype`: of autocast, float32 for none.
    """
    device = next(module.net.parameters()).device
    optimizer = module.configure_optimizers()

    def moved(batch: Any) -> Any:
        if isinstance(batch, torch.Tensor):
            return batch.to(device)
        parts = [moved(part) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)

    def step(batch: Any) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = module.training_step(moved(batch), 0)
        loss.backward()
        optimizer.step()
        module.average.update(module.net)

    def rate(batches: Iterator[Any], train: bool) -> float:
        for batch in islice(batches, 2):  # workers start, kernels are chosen
            step(batch) if train else None
        _settle(device)
        since, done = time.perf_counter(), 0
        for batch in batches:
            if train:
                step(batch)
            done += 1
        _settle(device)
        return done / (time.perf_counter() - since)

    same = next(iter(loader))
    alone = rate(islice(iter(loader), steps + 2), train=False)
    network = rate(iter([same] * (steps + 2)), train=True)
    return Rates(alone, network, rate(islice(iter(loader), steps + 2), train=True))


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
