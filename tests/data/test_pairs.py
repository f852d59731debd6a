"""Evaluation pairs: finding partners, cropping, making LR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparsesr.data import ImagePair, load_pair, paired_images
from sparsesr.io import read_image, to_tensor, write_image
from sparsesr.metrics import imresize


@pytest.fixture
def test_set(photos: Path, tmp_path: Path) -> Path:
    """HR/ and LRx3/, one LR file named with the scale."""
    root = tmp_path / "set"
    (root / "HR").mkdir(parents=True)
    (root / "LRx3").mkdir()
    for path in photos.iterdir():
        image = read_image(path)
        write_image(root / "HR" / path.name, image)
        cropped = image[: image.shape[0] // 3 * 3, : image.shape[1] // 3 * 3]
        name = f"{path.stem}x3.png" if path.stem == "1" else path.name
        write_image(root / "LRx3" / name, imresize(cropped, 1 / 3))
    return root


def test_files_are_matched_and_hr_cropped(test_set: Path) -> None:
    pairs = paired_images(test_set, 3)
    assert [pair.name for pair in pairs] == ["0", "1", "2"]
    assert pairs[1].lr == test_set / "LRx3" / "1x3.png"
    for pair in pairs:
        lr, hr = load_pair(pair, 3)
        assert hr.shape[-2:] == (lr.shape[-2] * 3, lr.shape[-1] * 3)
        whole = to_tensor(read_image(pair.hr))
        assert torch.equal(hr, whole[..., : hr.shape[-2], : hr.shape[-1]])


def test_made_lr_equals_stored_lr(test_set: Path) -> None:
    for pair in paired_images(test_set, 3):
        for a, b in zip(
            load_pair(ImagePair("", None, pair.hr), 3), load_pair(pair, 3), strict=True
        ):
            assert torch.equal(a, b)


def test_plain_folder_and_missing_lr_folder(test_set: Path, photos: Path) -> None:
    assert all(pair.lr is None for pair in paired_images(photos, 2))
    assert all(pair.lr is None for pair in paired_images(test_set, 2))


def test_errors(test_set: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="image folder not found"):
        paired_images(tmp_path / "none", 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no images in"):
        paired_images(tmp_path / "empty", 2)
    (test_set / "LRx3" / "2.png").unlink()
    with pytest.raises(ValueError, match=r"2\.png has no partner in"):
        paired_images(test_set, 3)
    small = tmp_path / "small.png"
    write_image(small, np.zeros((5, 5, 3), np.uint8))
    pair = ImagePair("small", test_set / "LRx3" / "0.png", small)
    with pytest.raises(ValueError, match="smaller than 3 times"):
        load_pair(pair, 3)


def test_extra_lr_files(test_set: Path) -> None:
    (test_set / "HR" / "0.png").unlink()
    with pytest.raises(ValueError, match=r"0\.png has no partner in .*HR: expected one LR file"):
        paired_images(test_set, 3)
    (test_set / "HR" / "2.png").unlink()
    with pytest.raises(ValueError, match=r"nor have 1 more"):
        paired_images(test_set, 3)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_shipped_test_sets_are_what_we_make(shared: Path, scale: int) -> None:
    """The stored LR images come from MATLAB; ours are within one step of 8 bit."""
    for pair in paired_images(shared / "data" / "Set5", scale)[:2]:
        stored, _ = load_pair(pair, scale)
        made, _ = load_pair(ImagePair(pair.name, None, pair.hr), scale)
        difference = (stored - made).abs() * 255
        assert difference.max() < 1.5
        assert (difference > 0.5).float().mean() < 1e-3
