"""HRFolder: what it holds, and its cache."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from sparsesr.data import HRFolder
from sparsesr.io import ImageError, read_image, write_image
from sparsesr.metrics import imresize


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_holds_cropped_hr_and_its_bicubic_lr(photos: Path, tmp_path: Path, scale: int) -> None:
    images = HRFolder(photos, scale, tmp_path / "cache")
    assert len(images) == 3
    for path, hr, lr in zip(images.files, images.hr, images.lr, strict=True):
        original = read_image(path)
        height, width = original.shape[0] // scale * scale, original.shape[1] // scale * scale
        expected = original[:height, :width]
        np.testing.assert_array_equal(hr, expected.transpose(2, 0, 1))
        np.testing.assert_array_equal(lr, imresize(expected, 1 / scale).transpose(2, 0, 1))
        assert hr.dtype == lr.dtype == np.uint8


def test_second_start_decodes_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = HRFolder(photos, 2, tmp_path / "cache")

    def fail(path: Path) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("sparsesr.data.hr_folder.read_image", fail)
    second = HRFolder(photos, 2, tmp_path / "cache")
    for a, b in zip(first.lr, second.lr, strict=True):
        np.testing.assert_array_equal(a, b)


def test_changed_file_and_other_scale_are_other_entries(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = HRFolder(photos, 2, cache)
    assert HRFolder(photos, 4, cache).cache_path != first.cache_path
    os.utime(photos / "1.png", ns=(1, 1))
    assert HRFolder(photos, 2, cache).cache_path != first.cache_path


def test_several_folders_are_one(photos: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "0.png").write_bytes((photos / "2.png").read_bytes())
    images = HRFolder([more, photos], 2, tmp_path / "cache")
    assert images.files == [more / "0.png", *(photos / f"{n}.png" for n in range(3))]
    np.testing.assert_array_equal(images.hr[0], images.hr[3])
    assert HRFolder([photos, more], 2, tmp_path / "cache").cache_path != images.cache_path
    with pytest.raises(ValueError, match="expected a folder of images or several"):
        HRFolder([], 2, tmp_path / "cache")


@pytest.fixture
def df2k(photos: Path, tmp_path: Path) -> Path:
    """A root with LR files of scale 2 that are not the reduction of HR."""
    root = tmp_path / "DIV2K"
    (root / "DIV2K_train_HR").mkdir(parents=True)
    (root / "DIV2K_train_LR_bicubic" / "X2").mkdir(parents=True)
    for path in photos.iterdir():
        image = read_image(path)
        write_image(root / "DIV2K_train_HR" / path.name, image)
        lr = 255 - image[: image.shape[0] // 2 * 2 : 2, : image.shape[1] // 2 * 2 : 2]
        write_image(root / "DIV2K_train_LR_bicubic" / "X2" / f"{path.stem}x2.png", lr)
    return root


def test_lr_files_are_used_and_belong_to_the_key(df2k: Path, tmp_path: Path) -> None:
    images = HRFolder(df2k, 2, tmp_path / "cache")
    for hr, lr in zip(images.hr, images.lr, strict=True):
        np.testing.assert_array_equal(lr, 255 - hr[:, ::2, ::2])
    plain = HRFolder(df2k / "DIV2K_train_HR", 2, tmp_path / "cache")
    assert plain.cache_path != images.cache_path
    os.utime(df2k / "DIV2K_train_LR_bicubic" / "X2" / "1x2.png", ns=(1, 1))
    assert HRFolder(df2k, 2, tmp_path / "cache").cache_path != images.cache_path
    made = HRFolder(df2k, 3, tmp_path / "cache")  # no LR of this scale
    expected = imresize(made.hr[0].transpose(1, 2, 0), 1 / 3)
    np.testing.assert_array_equal(made.lr[0], expected.transpose(2, 0, 1))


@pytest.mark.parametrize("shape", [(18, 30, 3), (20, 31, 3)])
def test_lr_of_another_size(df2k: Path, tmp_path: Path, shape: tuple[int, int, int]) -> None:
    path = df2k / "DIV2K_train_LR_bicubic" / "X2" / "1x2.png"
    write_image(path, np.zeros(shape, np.uint8), overwrite=True)
    text = rf"1x2\.png is {shape[1]}x{shape[0]} and .*1\.png 63x37: expected an LR image of 31x18"
    with pytest.raises(ValueError, match=text):
        HRFolder(df2k, 2, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_pickles_hold_no_pixels(photos: Path, tmp_path: Path) -> None:
    images = HRFolder(photos, 2, tmp_path / "cache")
    data = pickle.dumps(images)
    assert len(data) < 2000
    again = pickle.loads(data)
    assert again.files == images.files
    for a, b in zip(again.hr + again.lr, images.hr + images.lr, strict=True):
        np.testing.assert_array_equal(a, b)


def test_progress(photos: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    for _ in range(2):
        HRFolder(photos, 2, tmp_path / "cache", progress=lambda *call: calls.append(call))
    assert calls == [(1, 3, "0.png"), (2, 3, "1.png"), (3, 3, "2.png")]


@pytest.mark.parametrize("content", [b"no image", None])
def test_unreadable_image_is_named_and_nothing_stays(
    photos: Path, tmp_path: Path, content: bytes | None
) -> None:
    broken = photos / "2.png"
    broken.write_bytes(broken.read_bytes()[:-400] if content is None else content)
    with pytest.raises(ImageError, match=r"2\.png: cannot be read"):
        HRFolder(photos, 2, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_image_without_permission_is_no_cache_problem(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sparsesr.data.hr_folder.read_image", refuse)
    with pytest.raises(ImageError, match=r"0\.png: cannot be read \(Permission denied\)"):
        HRFolder(photos, 2, tmp_path / "cache")


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="image folder not found"):
        HRFolder(tmp_path / "none", 2, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no images in"):
        HRFolder(tmp_path / "empty", 2, tmp_path)
    with pytest.raises(ValueError, match="scale: expected an int >= 1, got 0"):
        HRFolder(tmp_path / "empty", 0, tmp_path)
    with pytest.raises(TypeError, match="scale: expected an int, got float"):
        HRFolder(tmp_path / "empty", 2.0, tmp_path)  # type: ignore[arg-type]


def test_image_smaller_than_the_scale(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    write_image(folder / "t.png", np.zeros((3, 9, 3), np.uint8))
    with pytest.raises(ValueError, match="too small for scale 4"):
        HRFolder(folder, 4, tmp_path / "cache")
