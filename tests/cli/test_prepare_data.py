"""``prepare-data``: the cache and the sub-images."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sparsesr.data import HRFolder
from sparsesr.data.sub_images import corners
from sparsesr.io import read_image, write_image
from sparsesr.metrics import imresize


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two photographs, no side a multiple of 4."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("0001", (35, 42, 3)), ("0002", (25, 49, 3))):
        write_image(folder / f"{name}.png", rng.integers(0, 256, shape, dtype=np.uint8))
    return folder


CUT = ("--crop", 16, "--step", 8)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_fills_the_cache_that_training_uses(
    run: Callable, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("prepare-data", images, "-s", 4, "-s", 2, "--cache", tmp_path / "cache")
    document = run(*words, "--json").json()
    assert [row["scale"] for row in document["caches"]] == [2, 4]
    monkeypatch.setattr("sparsesr.data.hr_folder.read_image", lambda path: pytest.fail("decoded"))
    for row in document["caches"]:
        folder = HRFolder(images, row["scale"], tmp_path / "cache")
        assert row["path"] == str(folder.cache_path)
        assert row["images"] == row["lr_made"] == 2
        sizes = sum(image.size for image in folder.hr + folder.lr)
        assert sizes < row["bytes"] < sizes + 100
    result = run(*words)
    assert result.code == 0
    assert "x2: 2 images, LR made" in result.out
    assert result.out.count(str(tmp_path / "cache")) == 2
    assert run(*words, "-q").out == ""


def test_sub_images(run: Callable, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    document = run("prepare-data", images, "-s", 2, "-s", 4, "-o", out, *CUT, "--json").json()
    # 32x40 starts at rows 0, 8, 16 and columns 0, 8, 16, 24; 24x48 at 0, 8 and 0, 8, ..., 32.
    assert [row["sub_images"] for row in document["files"]] == [12, 10]
    assert (document["done"], document["failed"], document["written"]) == (2, 0, 66)
    names = [f"0001_s{n:03d}.png" for n in range(1, 13)]
    names += [f"0002_s{n:03d}.png" for n in range(1, 11)]
    assert files(out) == {f"{folder}/{name}" for folder in ("HR", "LRx2", "LRx4") for name in names}
    whole = read_image(images / "0001.png")
    np.testing.assert_array_equal(read_image(out / "HR" / "0001_s007.png"), whole[8:24, 16:32])
    for scale in (2, 4):
        cropped = whole[: 35 // scale * scale, : 42 // scale * scale]
        lr = imresize(cropped, 1 / scale)
        y, x, side = 8 // scale, 16 // scale, 16 // scale
        piece = read_image(out / f"LRx{scale}" / "0001_s007.png")
        np.testing.assert_array_equal(piece, lr[y : y + side, x : x + side])
        folder = HRFolder(out, scale, tmp_path / "cache")
        assert all(pair.lr is not None for pair in folder.pairs)
        np.testing.assert_array_equal(folder.lr[6], piece.transpose(2, 0, 1))


def test_corners() -> None:
    assert corners(32, 16, 8) == [0, 8, 16]
    assert corners(36, 16, 8) == [0, 8, 16, 20]
    assert corners(16, 16, 8) == [0]
    assert corners(15, 16, 8) == []


def test_existing_files(run: Callable, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("prepare-data", images, "-s", 4, "-o", out, *CUT)
    assert run(*words).code == 0
    first = out / "HR" / "0001_s001.png"
    original = first.read_bytes()
    first.write_bytes(b"mine")
    (out / "LRx4" / "0002_s003.png").unlink()
    result = run(*words)
    assert result.code == 2
    assert "0001_s001.png already exists; pass --overwrite" in result.err
    assert run(*words, "--skip-existing", "--json").json()["written"] == 1
    assert (out / "LRx4" / "0002_s003.png").is_file()
    assert first.read_bytes() == b"mine"
    assert run(*words, "--overwrite").code == 0
    assert first.read_bytes() == original


def test_images_that_fail(run: Callable, images: Path, tmp_path: Path) -> None:
    path = images / "0003.png"
    path.write_bytes((images / "0001.png").read_bytes()[:-300])
    write_image(images / "0004.png", np.zeros((15, 90, 3), np.uint8))
    result = run("prepare-data", images, "-s", 4, "-o", tmp_path / "out", *CUT, "--json")
    assert result.code == 1
    document = result.json()
    assert [row["ok"] for row in document["files"]] == [True, True, False, False]
    assert (document["done"], document["failed"]) == (2, 2)
    assert "warning:" in result.err
    assert "0003.png: cannot be read" in result.err
    assert "0004.png is 90x15: smaller than the crop of 16x16" in result.err
    assert not list((tmp_path / "out").rglob("000[34]*"))
    result = run("prepare-data", images, "-s", 4, "--cache", tmp_path / "cache")
    assert result.code == 1
    assert "0003.png: cannot be read" in result.err
    assert list((tmp_path / "cache").iterdir()) == []


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk(
    run: Callable, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparsesr.data.cache._write", full)
    result = run("prepare-data", images, "--cache", tmp_path / "cache")
    assert result.code == 1
    assert "error: cannot write the image cache in" in result.err
    assert "Traceback" not in result.err
    monkeypatch.setattr("sparsesr.data.sub_images.write_image", full)
    result = run("prepare-data", images, "-o", tmp_path / "out", *CUT)
    assert result.code == 1
    assert "out (No space left on device); --skip-existing goes on from here" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none",), "image folder not found"),
        (("-s", 0), "--scale 0: expected a number >= 1"),
        (("-o", "out", "-s", 7), "crop: scale 7 does not divide 480"),
        (("-o", "out", "--step", 30), "step: scale 4 does not divide 30"),
        (("-o", "out", "--step", 0), "step: expected a number of HR pixels >= 1"),
        (("--crop", 48), "need -o FOLDER"),
        (("--overwrite",), "need -o FOLDER"),
        (("-o", "out", "--cache", "c"), "with -o nothing is cached"),
        (("-o", "out", "--overwrite", "--skip-existing"), "exclude each other"),
    ],
)
def test_usage(
    run: Callable,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("prepare-data", images, *words)
    assert result.code == 2
    assert message in result.err
    assert not (tmp_path / "out").exists()


def test_output_among_the_inputs(run: Callable, images: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    images.rename(data / "HR")
    result = run("prepare-data", data, "-o", data, *CUT, "--overwrite")
    assert result.code == 2
    assert "holds the photographs themselves" in result.err
    result = run("prepare-data", data, data, "-o", tmp_path / "out", *CUT)
    assert result.code == 2
    assert "would have sub-images of one name" in result.err
