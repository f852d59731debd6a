"""Batches whose LR is made of each HR crop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparsesr.data import CropBatches, HRFolder, Queries
from sparsesr.io import write_image
from sparsesr.metrics import imresize


@pytest.fixture
def images(tmp_path: Path) -> HRFolder:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name, shape in (("a", (40, 52, 3)), ("b", (44, 36, 3))):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        write_image(tmp_path / "photos" / f"{name}.png", pixels)
    return HRFolder(tmp_path / "photos", 4, tmp_path / "cache")


def _find(image: torch.Tensor, crop: torch.Tensor) -> bool:
    """Whether ``crop`` [3,n,n], turned somehow, lies in ``image`` [3,H,W]."""
    side = crop.shape[1]
    windows = image.unfold(1, side, 1).unfold(2, side, 1)
    turned = [torch.rot90(c, r, (1, 2)) for c in (crop, crop.flip(1)) for r in range(4)]
    return any(bool((windows == t[:, None, None]).all((0, 3, 4)).any()) for t in turned)


def test_one_scale(images: HRFolder) -> None:
    batches = CropBatches(images, lr_crop=7, batch=5, steps=3)
    lr, hr = batches[1]
    assert isinstance(hr, torch.Tensor)
    assert (lr.shape, hr.shape) == ((5, 3, 7, 7), (5, 3, 28, 28))
    assert torch.equal(lr, imresize(hr, 0.25))
    assert not torch.equal(lr, (lr * 255).round() / 255)
    photos = [torch.from_numpy(image.copy()).float() / 255 for image in images.hr]
    assert all(any(_find(photo, crop) for photo in photos) for crop in hr)
    again = CropBatches(images, lr_crop=7, batch=5, steps=9)[1]
    assert torch.equal(again[0], lr)
    assert not torch.equal(batches[2][0], lr)
    other = CropBatches(images, lr_crop=7, batch=5, steps=3, seed=1)[1]
    assert not torch.equal(other[0], lr)


def test_many_scales(images: HRFolder) -> None:
    batches = CropBatches(images, lr_crop=8, batch=6, steps=2, scales=(2, 4))
    lr, queries = batches[0]
    assert isinstance(queries, Queries)
    assert lr.shape == (6, 3, 8, 8)
    assert queries.colours.shape == (6, 3, 256)
    assert queries.places.shape == (6, 256, 2)
    sides = (2 / queries.cells[:, 0]).round()
    assert sides.min() >= 16
    assert sides.max() <= 32
    assert len(sides.unique()) > 2
    for n, side in enumerate(sides.long().tolist()):
        # Every place is the centre of a pixel, none comes twice.
        at = ((queries.places[n] + 1) * side - 1) / 2
        torch.testing.assert_close(at, at.round(), rtol=0, atol=1e-4)
        index = (at.round().long() @ torch.tensor([side, 1])).tolist()
        assert len(set(index)) == 256
        if side == 16:
            hr = torch.zeros(3, 256)
            hr[:, index] = queries.colours[n]
            torch.testing.assert_close(lr[n], imresize(hr.view(3, 16, 16), size=(8, 8)))
    assert torch.equal(batches[0][1].places, queries.places)  # type: ignore[union-attr]


def test_all_pixels_of_the_smallest_scale(images: HRFolder) -> None:
    lr, queries = CropBatches(images, lr_crop=6, batch=2, steps=1, scales=(2, 2))[0]
    assert isinstance(queries, Queries)
    for n in range(2):
        at = (((queries.places[n] + 1) * 12 - 1) / 2).round().long()
        hr = torch.zeros(3, 144)
        hr[:, at[:, 0] * 12 + at[:, 1]] = queries.colours[n]
        torch.testing.assert_close(lr[n], imresize(hr.view(3, 12, 12), size=(6, 6)))


def test_bad_sizes(images: HRFolder) -> None:
    with pytest.raises(ValueError, match=r"lr_crop 10 needs 40 HR px, .*b\.png is 36x44"):
        CropBatches(images, lr_crop=10, batch=1, steps=1)
    with pytest.raises(ValueError, match="lr_crop 20 needs 50 HR px"):
        CropBatches(images, lr_crop=20, batch=1, steps=1, scales=(1, 2.5))
    with pytest.raises(ValueError, match="batch: expected an int >= 1, got 0"):
        CropBatches(images, lr_crop=4, batch=0, steps=1)
