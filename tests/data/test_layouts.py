"""Which folders of a data set hold HR and LR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsesr.data import load_pair, paired_images
from sparsesr.data.layouts import find_folders
from sparsesr.io import write_image


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
    return root


@pytest.mark.parametrize(
    ("hr", "lr"),
    [
        ("HR", "LRx4"),
        ("HR", "LR_bicubic/X4"),
        ("DIV2K_train_HR", "DIV2K_train_LR_bicubic/X4"),
        ("DIV2K_train_HR", "LRx4"),
        ("DIV2K_train_HR_sub", "DIV2K_train_LR_bicubic/X4_sub"),
        ("DIV2K_valid_HR", "DIV2K_valid_LR_bicubic/X4"),
        ("Flickr2K_HR", "Flickr2K_LR_bicubic/X4"),
        ("Flickr2K_HR_sub", "Flickr2K_LR_bicubic/X4_sub"),
        ("GTmod12", "LRbicx4"),
        ("GTmod4", "LRbicx4"),
        ("original", "LRbicx4"),
        ("GT", "LR_bicubic/x4"),
        ("hr", "lrX4"),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_known_names(tmp_path: Path, hr: str, lr: str, training: bool) -> None:
    make(tmp_path, hr)
    assert find_folders(tmp_path, 4, training=training) == (tmp_path / hr, None)
    make(tmp_path, lr, lr.replace("4", "2"))
    assert find_folders(tmp_path, 4, training=training) == (tmp_path / hr, tmp_path / lr)
    assert find_folders(tmp_path, 3, training=training) == (tmp_path / hr, None)


def test_plain_and_missing_folders(tmp_path: Path) -> None:
    make(tmp_path, "LRx4", "other")
    assert find_folders(tmp_path, 4) == (tmp_path, None)
    with pytest.raises(FileNotFoundError, match="image folder not found"):
        find_folders(tmp_path / "none", 4)


@pytest.mark.parametrize(
    ("names", "training", "expected"),
    [
        (("original", "GTmod12", "GT"), False, "GTmod12"),
        (("GTmod4", "GTmod12"), False, "GTmod12"),
        (("GT", "original"), True, "original"),
        (("DIV2K_train_HR", "DIV2K_valid_HR"), True, "DIV2K_train_HR"),
        (("DIV2K_train_HR", "DIV2K_valid_HR"), False, "DIV2K_valid_HR"),
        (("DIV2K_train_HR_sub", "DIV2K_train_HR"), True, "DIV2K_train_HR"),
        (("Flickr2K_HR", "HR"), False, "HR"),
        (("hr", "HR"), False, "HR"),
    ],
)
def test_order(tmp_path: Path, names: tuple[str, ...], training: bool, expected: str) -> None:
    make(tmp_path, *names)
    assert find_folders(tmp_path, 4, training=training)[0] == tmp_path / expected


def test_pairs_of_a_benchmark_set(tmp_path: Path) -> None:
    """HR of any size beside LR of HR cropped to multiples of 12, as published."""
    make(tmp_path, "original", "LRbicx4")
    for name, side in (("bird", 50), ("baby", 61)):
        write_image(tmp_path / "original" / f"{name}.png", np.zeros((side, side, 3), np.uint8))
        lr = np.zeros((side // 12 * 3, side // 12 * 3, 3), np.uint8)
        write_image(tmp_path / "LRbicx4" / f"{name}.png", lr)
    pairs = paired_images(tmp_path, 4)
    assert [pair.name for pair in pairs] == ["baby", "bird"]
    lr_image, hr_image = load_pair(pairs[0], 4)
    assert (lr_image.shape[-1], hr_image.shape[-1]) == (15, 60)
