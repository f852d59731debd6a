"""A folder with one file of every kind: each comes back in kind, the bad ones are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from sparsesr.io import Metadata, Picture, read_picture, write_picture

ORIENTATION = 0x0112
HEIGHT, WIDTH = 12, 18
BAD = ("cut.jpg", "empty.png", "text.png")
MODEL = ("-m", "fsrcnn-mga-x2", "--k", 5)


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation: int = 1) -> Image.Exif:
    block = Image.Exif()
    block[ORIENTATION], block[0x010F] = orientation, "Maker"
    block.get_ifd(0x8769)[0x9003] = "2020:02:03 04:05:06"
    return block


def smooth() -> np.ndarray:
    """[HEIGHT, WIDTH, 4] uint8, a ramp to each side, soft alpha."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    planes = [20 * y, 14 * x, 10 * y + 6 * x, np.clip(40 * (y - 3), 0, 255)]
    return np.dstack(planes).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of every kind, a text file, three bad ones and a sub-folder."""
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    rgba = Image.fromarray(smooth())
    rgb = rgba.convert("RGB")
    told = {"exif": exif(), "icc_profile": profile(), "dpi": (300, 300)}
    for suffix in ("png", "jpg", "tif"):
        rgb.save(root / f"rgb_{suffix}.{suffix}", **told)
    rgb.save(root / "rgb_bmp.bmp", dpi=(300, 300))
    for name, lossless in (("lossy", False), ("lossless", True)):
        rgb.save(root / f"{name}.webp", exif=exif(), icc_profile=profile(), lossless=lossless)
    for mode in ("1", "L", "LA", "P", "RGBA"):
        for suffix in ("png", "tif"):
            rgba.convert(mode).save(root / f"{mode}_{suffix}.{suffix}", dpi=(300, 300))
    rgba.save(root / "alpha.webp", lossless=True)
    rgba.convert("L").save(root / "grey.jpg")
    rgba.quantize(16).save(root / "clear_palette.png")
    rgb.convert("CMYK").save(root / "inks.jpg", quality=95, exif=exif(), dpi=(300, 300))
    deep = Metadata(exif().tobytes(), profile(), (300, 300))
    planes = smooth().astype(np.uint16) * 200 + 7
    for suffix in ("png", "tif"):
        for kind in ("L", "RGB", "RGBA"):
            colour = planes[..., 0].copy() if kind == "L" else planes[..., :3].copy()
            alpha = smooth()[..., 3].astype(np.uint16) * 257 if kind == "RGBA" else None
            write_picture(
                root / f"deep_{kind}_{suffix}.{suffix}", Picture(colour, alpha, kind, deep)
            )
        rgb.save(root / f"turned_{suffix}.{suffix}", exif=exif(6))
    rgb.save(root / "turned_jpg.jpg", exif=exif(6), quality=95, dpi=(300, 300))
    whole = (root / "rgb_jpg.jpg").read_bytes()
    (root / "cut.jpg").write_bytes(whole[: len(whole) - 150])
    (root / "empty.png").write_bytes(b"")
    (root / "text.png").write_text("a text that says it is a picture")
    (root / "notes.txt").write_text("no image")
    rgb.save(root / "sub" / "inner.png")
    return root


def facts(path: Path) -> dict:
    """What must be equal before and after, but for the orientation's tag."""
    found = read_picture(path)
    with Image.open(path) as image:
        block = image.getexif()
        dpi = image.info.get("dpi")
        return {
            "format": image.format,
            "mode": image.mode,
            "kind": found.kind,
            "depth": found.depth,
            "icc": image.info.get("icc_profile"),
            "dpi": None if dpi is None else tuple(round(float(side)) for side in dpi),
            "maker": block.get(0x010F),
            "date": block.get_ifd(0x8769).get(0x9003),
            "lossless": found.metadata.lossless,
        }


def test_every_image_comes_back_in_kind(run: Callable, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("upscale", folder, "-o", out, *MODEL, "--json")
    assert result.code == 1
    for name in BAD:
        assert f"{name}: cannot be read as an image" in result.err
    sources = sorted(
        p for p in folder.iterdir() if p.is_file() and p.name not in (*BAD, "notes.txt")
    )
    assert len(sources) == 29
    assert sorted(p.name for p in out.iterdir()) == sorted(
        f"{p.stem}_x2{p.suffix}" for p in sources
    )
    document = result.json()
    assert (document["done"], document["failed"], document["skipped"]) == (29, 3, 0)
    assert [row for row in document["files"] if "warnings" in row] == []
    for source in sources:
        output = out / f"{source.stem}_x2{source.suffix}"
        assert facts(output) == facts(source), source.name
        with Image.open(output) as image:
            assert image.getexif().get(ORIENTATION, 1) == 1, source.name
        lr, sr = read_picture(source), read_picture(output)
        assert sr.colour.shape[:2] == (2 * lr.colour.shape[0], 2 * lr.colour.shape[1])
        if "turned" in source.name:
            assert lr.colour.shape == (WIDTH, HEIGHT, 3)
        if lr.kind in ("1", "P", "PA"):
            continue
        # The same picture: each 2x2 mean is near its pixel, at the depth of the file.
        means = sr.colour.reshape(lr.colour.shape[0], 2, lr.colour.shape[1], 2, -1).mean((1, 3))
        error = np.abs(means - lr.colour.reshape(means.shape)) / lr.top
        assert np.median(error) < 0.03, source.name
        if lr.depth == 16:
            assert (sr.colour % 257 != 0).mean() > 0.5


def test_a_second_run_does_nothing(run: Callable, folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        if path.is_file() and path.name not in ("rgb_png.png", "deep_RGB_tif.tif", *BAD):
            path.unlink()
    out = tmp_path / "out"
    words = ("upscale", folder, "-o", out, *MODEL, "--skip-existing", "--json")
    assert run(*words).json()["done"] == 2
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    again = run(*words)
    assert again.code == 1  # the bad ones are still bad
    document = again.json()
    assert (document["done"], document["failed"], document["skipped"]) == (0, 3, 2)
    assert "rgb_png_x2.png is there, skipped" in again.err
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()} == before
    for name in BAD:
        (folder / name).unlink()
    assert run(*words).code == 0


@pytest.mark.parametrize(
    ("name", "target", "text"),
    [
        ("RGBA_png.png", "jpg", "JPEG has no transparency; laid on white"),
        ("RGBA_png.png", "bmp", "BMP has no transparency; laid on white"),
        ("deep_RGB_png.png", "webp", "WEBP has no 16 bits a sample; rounded to 8"),
        ("inks.jpg", "png", "PNG has no CMYK; written as sRGB"),
    ],
)
def test_what_a_format_cannot_hold_is_told(
    run: Callable, folder: Path, tmp_path: Path, name: str, target: str, text: str
) -> None:
    out = tmp_path / "out"
    result = run("upscale", folder / name, "-o", out, *MODEL, "--format", target, "-q")
    assert result.code == 0  # it is done, as well as the format can
    assert result.err.startswith("warning:")
    assert text in result.err
    assert [p.suffix for p in out.iterdir()] == [f".{target}"]


def test_quality(run: Callable, folder: Path, tmp_path: Path) -> None:
    sizes = []
    for quality in (20, 95):
        out = tmp_path / f"{quality}.jpg"
        words = ("upscale", folder / "rgb_jpg.jpg", "-o", out, *MODEL, "--jpeg-quality", quality)
        assert run(*words).code == 0
        sizes.append(out.stat().st_size)
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--jpeg-quality", 0], "--jpeg-quality 0: expected a number from 1 to 100"),
        (["--skip-existing", "--overwrite"], "--skip-existing and --overwrite exclude each other"),
    ],
)
def test_wrong_options(run: Callable, folder: Path, words: list, text: str) -> None:
    result = run("upscale", folder / "rgb_png.png", *MODEL, *words)
    assert result.code == 2
    assert text in result.err
