"""Reading and writing image files; what a user can get wrong, and what must not stay behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sparsesr.io import (
    ImageError,
    OutputExistsError,
    atomic_output,
    list_images,
    read_image,
    to_array,
    to_tensor,
    write_image,
)


def noise(height: int = 9, width: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "PNG"])
def test_lossless_round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_image(path, noise())
    np.testing.assert_array_equal(read_image(path), noise())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp"])
def test_lossy_formats_come_close(tmp_path: Path, suffix: str) -> None:
    smooth = np.tile(np.linspace(0, 255, 32, dtype=np.uint8)[:, None, None], (1, 24, 3))
    write_image(tmp_path / f"a.{suffix}", smooth)
    back = read_image(tmp_path / f"a.{suffix}").astype(int)
    assert np.abs(back - smooth).max() <= 6


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(noise()).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (9, 7, 3)
    assert image.dtype == np.uint8


def test_deep_images_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ImageError, match=r"deep\.png: has mode I.*more than 8 bits"):
        read_image(tmp_path / "deep.png")


def test_camera_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(8, 16)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (16, 8, 3)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.png: no such file; check the path"):
        read_image(tmp_path / "no.png")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n broken"])
def test_what_is_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"broken\.png: cannot be read as an image"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_image(tmp_path: Path, suffix: str) -> None:
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    write_image(whole, noise(64, 64))
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(ImageError, match=rf"cut\.{suffix}: cannot be read"):
        read_image(cut)
    assert issubclass(ImageError, ValueError)


def test_existing_output_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, noise())
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match=r"a\.png already exists; pass --overwrite"):
        write_image(path, noise() // 2)
    assert path.read_bytes() == before
    write_image(path, noise() // 2, overwrite=True)
    np.testing.assert_array_equal(read_image(path), noise() // 2)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_nothing_half_written_stays(tmp_path: Path, interruption: type[BaseException]) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("old")
    for path, overwrite in ((tmp_path / "new.txt", False), (kept, True)):
        with pytest.raises(interruption), atomic_output(path, overwrite) as part:  # noqa: PT012
            part.write_text("half")
            raise interruption
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    assert kept.read_text() == "old"


def test_a_failing_encoder_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(self: Image.Image, file: object, **options: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(OSError, match="disk full"):
        write_image(tmp_path / "a.png", noise())
    assert list(tmp_path.iterdir()) == []


def test_output_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(OutputExistsError), atomic_output(path) as part:  # noqa: PT012
        part.write_text("mine")
        path.write_text("theirs")
    assert path.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_bad_targets(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist"):
        write_image(tmp_path / "nowhere" / "a.png", noise())
    with pytest.raises(ValueError, match=r"unknown suffix '\.xyz'; expected one of \.bmp"):
        write_image(tmp_path / "a.xyz", noise())
    with pytest.raises(TypeError, match="expected a uint8 ndarray, got float64"):
        write_image(tmp_path / "a.png", noise() / 255)
    with pytest.raises(ValueError, match=r"expected \[H, W, 3\] or \[H, W\], got \(9, 7, 2\)"):
        write_image(tmp_path / "a.png", noise()[..., :2])
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        write_image(tmp_path / "folder.png", noise())
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path / "folder.png")


def test_list_images(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "sub/c.png"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in list_images(tmp_path)] == ["a.JPG", "b.png"]
    assert [p.name for p in list_images(tmp_path, recursive=True)] == ["a.JPG", "b.png", "c.png"]
    assert list_images(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(FileNotFoundError, match=r"nothing: no such file or folder"):
        list_images(tmp_path / "nothing")


def test_tensor_round_trip() -> None:
    tensor = to_tensor(noise())
    assert tensor.shape == (1, 3, 9, 7)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    np.testing.assert_array_equal(to_array(tensor), noise())
    np.testing.assert_array_equal(to_array(tensor[0].double()), noise())
    np.testing.assert_array_equal(to_array(to_tensor(noise() / 255)), noise())
    flipped = noise()[::-1, ::-1]
    np.testing.assert_array_equal(to_array(to_tensor(flipped)), flipped)


def test_to_array_clamps_and_rounds() -> None:
    tensor = torch.tensor([-1.0, 0.5 / 255, 2.0]).view(3, 1, 1)
    assert to_array(tensor).tolist() == [[[0, 1, 255]]]


@pytest.mark.parametrize(
    ("function", "value", "error", "text"),
    [
        (to_tensor, torch.zeros(1), TypeError, "expected an ndarray, got Tensor"),
        (to_tensor, np.zeros((4, 4)), ValueError, r"expected \[H, W, 3\], got \(4, 4\)"),
        (to_tensor, np.zeros((4, 4, 3), np.int64), TypeError, "got int64"),
        (to_array, np.zeros(3), TypeError, "expected a floating Tensor, got ndarray"),
        (to_array, torch.zeros(3, 2, 2, dtype=torch.uint8), TypeError, "got torch.uint8"),
        (to_array, torch.zeros(2, 3, 4, 4), ValueError, r"got \(2, 3, 4, 4\)"),
        (to_array, torch.full((3, 2, 2), float("nan")), ValueError, "NaN or infinite"),
    ],
)
def test_bad_arrays(function: object, value: object, error: type, text: str) -> None:
    assert callable(function)
    with pytest.raises(error, match=text):
        function(value)
