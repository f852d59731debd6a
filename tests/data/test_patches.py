"""PatchBatches: pure in the step, aligned, the same symmetry for LR and HR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparsesr.data import HRFolder, PatchBatches
from sparsesr.data.patches import augment
from sparsesr.metrics import imresize


def make(photos: Path, scale: int = 2, **options: int) -> PatchBatches:
    images = HRFolder(photos, scale, photos.parent / "cache")
    return PatchBatches(images, **{"lr_crop": 6, "batch": 5, "steps": 100, **options})


def test_batch_is_a_pure_function_of_seed_rank_and_step(photos: Path) -> None:
    batches, again = make(photos), make(photos)
    torch.manual_seed(1)
    np.random.seed(1)
    later = batches[7]
    for step in (7, 3, 7):
        for a, b in zip(batches[step], again[step], strict=True):
            assert torch.equal(a, b)
    assert torch.equal(later[0], again[7][0])
    others = [batches[8], make(photos, seed=1)[7], make(photos, rank=1)[7]]
    for lr, hr in others:
        assert not torch.equal(lr, later[0])
        assert not torch.equal(hr, later[1])


def test_shapes_types_and_range(photos: Path) -> None:
    batches = make(photos, 3)
    lr, hr = batches[0]
    assert len(batches) == 100
    assert lr.shape == (5, 3, 6, 6)
    assert hr.shape == (5, 3, 18, 18)
    assert lr.dtype == hr.dtype == torch.float32
    assert min(lr.min(), hr.min()) >= 0
    assert max(lr.max(), hr.max()) <= 1


@pytest.mark.parametrize("scale", [2, 4])
def test_samples_are_aligned_slices_of_the_images(photos: Path, scale: int) -> None:
    batches = make(photos, scale)
    images = batches.images
    found_codes = set()
    for step in range(6):
        lr, hr = ((t * 255).round().byte().numpy() for t in batches[step])
        for n in range(5):
            place = find(images, lr[n], hr[n], scale)
            assert place is not None
            found_codes.add(place)
    assert len(found_codes) == 8


def find(images: HRFolder, lr: np.ndarray, hr: np.ndarray, scale: int) -> int | None:
    """The symmetry under which lr and hr are slices of one image at one place."""
    size = lr.shape[-1]
    for lr_image, hr_image in zip(images.lr, images.hr, strict=True):
        for code in range(8):
            for y in range(lr_image.shape[1] - size + 1):
                for x in range(lr_image.shape[2] - size + 1):
                    part = lr_image[:, y : y + size, x : x + size]
                    if not np.array_equal(augment(part, code), lr):
                        continue
                    y0, x0, side = y * scale, x * scale, size * scale
                    big = hr_image[:, y0 : y0 + side, x0 : x0 + side]
                    if np.array_equal(augment(big, code), hr):
                        return code
    return None


def test_lr_crop_is_near_the_bicubic_of_the_hr_crop(photos: Path) -> None:
    lr, hr = make(photos, 2, lr_crop=12)[0]
    small = imresize(hr, 0.5)
    inner = (..., slice(3, -3), slice(3, -3))
    assert (small[inner] - lr[inner]).abs().max() < 1.5 / 255


def test_augment_gives_the_eight_symmetries() -> None:
    image = np.arange(3 * 4 * 4).reshape(3, 4, 4)
    results = {augment(image, code).tobytes() for code in range(8)}
    assert len(results) == 8
    np.testing.assert_array_equal(augment(image, 1), image[:, :, ::-1])
    np.testing.assert_array_equal(augment(image, 2), image[:, ::-1])
    np.testing.assert_array_equal(augment(image, 4), np.rot90(image, axes=(1, 2)))


def test_crop_may_fill_the_image(photos: Path) -> None:
    images = HRFolder(photos, 2, photos.parent / "cache")
    smallest = min(min(image.shape[1:]) for image in images.lr)
    lr, _ = PatchBatches(images, lr_crop=smallest, batch=4, steps=1)[0]
    assert lr.shape[-1] == smallest
    with pytest.raises(ValueError, match=r"lr_crop .* does not fit .*use a smaller lr_crop"):
        PatchBatches(images, lr_crop=smallest + 1, batch=4, steps=1)


@pytest.mark.parametrize("key", ["lr_crop", "batch", "steps"])
def test_numbers_below_one(photos: Path, key: str) -> None:
    with pytest.raises(ValueError, match=f"{key}: expected an int >= 1, got 0"):
        make(photos, **{key: 0})
