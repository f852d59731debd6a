"""What PatchBatches and CropBatches share: parts, pickles, checks, and batches that stay."""

from __future__ import annotations

import hashlib
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparsesr.data import Batches, CropBatches, HRFolder, PatchBatches, Queries
from sparsesr.io import write_image

Make = Callable[..., Batches]


def tensors(batch: Any) -> list[torch.Tensor]:
    lr, target = batch
    return [lr, *target] if isinstance(target, Queries) else [lr, target]


@pytest.fixture(params=["patches", "crops", "scales"])
def make(request: pytest.FixtureRequest, photos: Path) -> Make:
    """Batches of one kind, 12 samples each."""
    images = HRFolder(photos, 2, photos.parent / "cache")
    options: dict[str, Any] = {"lr_crop": 6, "batch": 12, "steps": 9}
    if request.param == "patches":
        return lambda **more: PatchBatches(images, **{**options, **more})
    scales = (1.5, 4) if request.param == "scales" else None
    return lambda **more: CropBatches(images, scales=scales, **{**options, **more})


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_parts_make_the_whole_batch(make: Make, count: int) -> None:
    whole = tensors(make(seed=4, rank=1)[7])
    parts = [tensors(make(seed=4, rank=1, part=(index, count))[7]) for index in range(count)]
    for name, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert all(len(piece) == 12 // count for piece in pieces)
        assert torch.equal(torch.cat(pieces), name)


@pytest.mark.parametrize("part", [(1, 1), (-1, 2), (0, 0), (2, 2)])
def test_impossible_parts(make: Make, part: tuple[int, int]) -> None:
    with pytest.raises(
        ValueError, match=r"part: expected \(index, count\) with 0 <= index < count"
    ):
        make(part=part)


def test_batch_that_cannot_be_parted(make: Make) -> None:
    with pytest.raises(ValueError, match="part: 5 parts do not divide a batch of 12"):
        make(part=(0, 5))


def test_pickled_and_forked_batches_are_the_same(make: Make) -> None:
    batches = make()
    data = pickle.dumps(batches)
    assert len(data) < 3000
    expected = [t.sum().item() for t in tensors(batches[3])]
    assert [t.sum().item() for t in tensors(pickle.loads(data)[3])] == expected
    loader = torch.utils.data.DataLoader(
        batches,
        batch_size=None,
        sampler=[3, 4],
        num_workers=1,
        multiprocessing_context=multiprocessing.get_context("fork"),
    )
    assert [t.sum().item() for t in tensors(next(iter(loader)))] == expected


# Trainings resume with the batches they would have seen: these never change.
DIGESTS = {
    "patches": "871558e85d0faf11",
    "crops": "c0217849cfc0e8f2",
    "scales": "bdf5a962d5b20f2f",
}


@pytest.mark.parametrize("kind", ["patches", "crops", "scales"])
def test_batches_are_those_of_earlier_versions(tmp_path: Path, kind: str) -> None:
    (tmp_path / "noise").mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("a", (40, 52, 3)), ("b", (44, 36, 3))):
        noise = rng.integers(0, 256, shape, dtype=np.uint8)
        write_image(tmp_path / "noise" / f"{name}.png", noise)
    images = HRFolder(tmp_path / "noise", 2, tmp_path / "cache")
    options: dict[str, Any] = {"lr_crop": 8, "batch": 4, "steps": 9, "seed": 2, "rank": 1}
    if kind == "patches":
        target: Any = PatchBatches(images, **options)[5][1]
    else:
        scales = (1.5, 4) if kind == "scales" else None
        target = CropBatches(images, scales=scales, **options)[5][1]
    pixels = target.colours if isinstance(target, Queries) else target
    levels = (pixels * 255).round().byte().numpy()
    assert hashlib.sha256(levels.tobytes()).hexdigest()[:16] == DIGESTS[kind]
