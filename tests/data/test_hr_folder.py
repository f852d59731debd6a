"""HRFolder: what it holds, and its cache."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from sparsesr.data import HRFolder, default_cache_dir
from sparsesr.io import read_image, write_image
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


def test_failed_build_leaves_nothing_behind(photos: Path, tmp_path: Path) -> None:
    (photos / "2.png").write_bytes(b"no image")
    with pytest.raises(Exception, match=r"2\.png"):
        HRFolder(photos, 2, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_truncated_cache_is_named(photos: Path, tmp_path: Path) -> None:
    images = HRFolder(photos, 2, tmp_path / "cache")
    path = images.cache_path / "lr.bin"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(RuntimeError, match=r"asks for .*: remove"):
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


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSESR_CACHE", "/somewhere")
    assert default_cache_dir() == Path("/somewhere")
    monkeypatch.delenv("SPARSESR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert default_cache_dir() == Path("/caches/sparsesr")
