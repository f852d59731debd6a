"""Pictures of every kind, read and written back: mode, depth, orientation, metadata, losses."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from sparsesr.io import (
    ImageError,
    Metadata,
    OutputExistsError,
    Picture,
    PictureWarning,
    read_picture,
    write_picture,
)

ORIENTATION = 0x0112


@pytest.fixture(autouse=True)
def _no_silent_warnings() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error", PictureWarning)
        yield


def noise(channels: int, dtype: type = np.uint8, height: int = 9, width: int = 7) -> np.ndarray:
    shape = (height, width, channels)[: 3 if channels > 1 else 2]
    top = int(np.iinfo(dtype).max) + 1
    return np.random.default_rng(channels).integers(0, top, shape).astype(dtype)


def profile(space: str = "sRGB") -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


def exif(orientation: int = 1) -> Image.Exif:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    block[0x010F] = "Maker"
    block.get_ifd(0x8769)[0xA002] = 7
    block.get_ifd(0x8769)[0x9003] = "2020:02:03 04:05:06"
    return block


def full_metadata(**others: object) -> Metadata:
    return Metadata(exif().tobytes(), profile(), (300.0, 150.0), **others)  # type: ignore[arg-type]


def picture(kind: str, dtype: type = np.uint8, metadata: Metadata | None = None) -> Picture:
    colour = noise(1 if kind in ("1", "L", "LA") else 3, dtype)
    if kind == "1":
        colour = np.where(colour >= 128, 255, 0).astype(np.uint8)
    alpha = noise(1, dtype)[::-1].copy() if kind.endswith("A") else None
    return Picture(colour, alpha, kind, metadata or Metadata())


def same(one: Picture, other: Picture) -> None:
    assert (one.kind, one.depth) == (other.kind, other.depth)
    np.testing.assert_array_equal(one.colour, other.colour)
    assert (one.alpha is None) == (other.alpha is None)
    if one.alpha is not None:
        np.testing.assert_array_equal(one.alpha, other.alpha)


SHALLOW = [
    (kind, suffix, np.uint8)
    for kind in ("1", "L", "LA", "P", "RGB", "RGBA")
    for suffix in ("png", "tif", "bmp", "webp")
    if not (suffix == "bmp" and kind.endswith("A"))
]
DEEP = [
    (kind, suffix, np.uint16) for kind in ("L", "LA", "RGB", "RGBA") for suffix in ("png", "tif")
]


@pytest.mark.parametrize(("kind", "suffix", "dtype"), [*SHALLOW, *DEEP, ("CMYK", "tif", np.uint8)])
def test_lossless_round_trips(tmp_path: Path, kind: str, suffix: str, dtype: type) -> None:
    path = tmp_path / f"a.{suffix}"
    before = picture(kind, dtype, Metadata(lossless=True))
    write_picture(path, before)
    after = read_picture(path)
    assert list(tmp_path.iterdir()) == [path]
    if suffix == "webp" or (suffix, kind, dtype) == ("tif", "LA", np.uint16):
        # They have no grey, palettes or single bits: the same colours in RGB.
        assert after.kind == ("RGBA" if kind == "LA" or kind == "RGBA" else "RGB")
        grey = before.colour[..., None] if before.grey else before.colour
        np.testing.assert_array_equal(after.colour, np.broadcast_to(grey, after.colour.shape))
        assert after.alpha is before.alpha or (after.alpha == before.alpha).all()  # type: ignore[union-attr]
    else:
        same(before, after)


IN_KIND = [
    (kind, suffix)
    for kind in ("L", "P", "RGB", "RGBA", "RGB16", "L16")
    for suffix in ("png", "tif", "jpg", "webp")
    if kind == "RGB" or suffix in ("png", "tif")
]


@pytest.mark.parametrize(("kind", "suffix"), IN_KIND)
def test_metadata_is_kept(tmp_path: Path, kind: str, suffix: str) -> None:
    deep = kind.endswith("16")
    path = tmp_path / f"a.{suffix}"
    text = {"Title": "Über", "Author": "one"} if suffix == "png" else {}
    before = picture(
        kind.removesuffix("16"), np.uint16 if deep else np.uint8, full_metadata(text=text)
    )
    write_picture(path, before)
    after = read_picture(path).metadata
    assert after.icc == profile()
    assert after.text == text
    with Image.open(path) as image:
        block = image.getexif()
        assert (block[0x010F], block[ORIENTATION]) == ("Maker", 1)
        details = block.get_ifd(0x8769)
        assert (details[0x9003], details[0xA002]) == ("2020:02:03 04:05:06", 7)
        if suffix == "webp":  # which has no other place for it
            assert (block[0x011A], block[0x011B], block[0x0128]) == (300, 150, 2)
        else:
            assert image.info["dpi"] == pytest.approx((300, 150), abs=0.05)


def test_the_stated_size_follows(tmp_path: Path) -> None:
    larger = Picture(noise(3, height=18, width=14), metadata=full_metadata())
    write_picture(tmp_path / "a.jpg", larger)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.getexif().get_ifd(0x8769)[0xA002] == 14


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_orientation_is_applied_and_reset(tmp_path: Path, orientation: int, suffix: str) -> None:
    path, out = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    Image.fromarray(noise(3)).save(path, exif=exif(orientation))
    found = read_picture(path)
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(found.colour, expected)
    write_picture(out, found)
    with Image.open(out) as image:
        assert image.getexif()[ORIENTATION] == 1
        assert image.getexif()[0x010F] == "Maker"
        assert image.size == (expected.shape[1], expected.shape[0])


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_orientation_of_16_bits(tmp_path: Path, suffix: str, channels: int) -> None:
    path = tmp_path / f"a.{suffix}"
    colour = noise(channels, np.uint16)
    kind = "L" if channels == 1 else "RGB"
    write_picture(path, Picture(colour, None, kind, Metadata(exif(6).tobytes())))
    np.testing.assert_array_equal(read_picture(path).colour, np.rot90(colour, -1))
    write_picture(path, read_picture(path), overwrite=True)
    np.testing.assert_array_equal(read_picture(path).colour, np.rot90(colour, -1))


def test_16_bits_of_other_programs(tmp_path: Path) -> None:
    import cv2

    deep = noise(4, np.uint16)
    for suffix in ("png", "tif"):
        for channels in (1, 3, 4):
            path = tmp_path / f"{channels}.{suffix}"
            cv2.imwrite(str(path), deep[..., 0] if channels == 1 else deep[..., :channels])
            found = read_picture(path)
            assert found.kind == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
            expected = deep[..., 0] if channels == 1 else deep[..., 2::-1]
            np.testing.assert_array_equal(found.colour, expected)
            if channels == 4:
                np.testing.assert_array_equal(found.alpha, deep[..., 3])
            write_picture(path, found, overwrite=True)
            back = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(
                back, deep[..., 0] if channels == 1 else deep[..., :channels]
            )


def test_large_16_bits_take_several_strips(tmp_path: Path) -> None:
    large = Picture(noise(3, np.uint16, 150, 40))
    for suffix in ("png", "tif"):
        write_picture(tmp_path / f"a.{suffix}", large)
        same(large, read_picture(tmp_path / f"a.{suffix}"))


@pytest.mark.parametrize("keyed", [b"\x00\x80\xff", 1])
def test_palettes_with_transparency(tmp_path: Path, keyed: object) -> None:
    image = Image.fromarray(noise(1) % 3)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "a.png", transparency=keyed)
    found = read_picture(tmp_path / "a.png")
    assert found.kind == "PA"
    write_picture(tmp_path / "b.png", found)
    with Image.open(tmp_path / "b.png") as image:
        assert image.mode == "P"
        assert "transparency" in image.info
    again = read_picture(tmp_path / "b.png")
    np.testing.assert_array_equal(again.alpha, found.alpha)
    shown = found.alpha > 0
    np.testing.assert_array_equal(again.colour[shown], found.colour[shown])


def test_palettes_of_many_colours(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    colour = np.dstack([*np.meshgrid(ramp, ramp), np.full((64, 64), 90, np.uint8)])
    alpha = np.zeros((64, 64), np.uint8)
    alpha[:, 20:], alpha[:, 18:20] = 255, 100
    for kind in ("P", "PA"):
        before = Picture(colour, alpha if kind == "PA" else None, kind)
        write_picture(tmp_path / f"{kind}.png", before)
        after = read_picture(tmp_path / f"{kind}.png")
        assert after.kind == kind
        shown = alpha > 0
        error = np.abs(after.colour.astype(int) - colour)[shown]
        assert error.mean() < 8
        if after.alpha is not None:
            assert (after.alpha[alpha == 0] == 0).all()
            assert (after.alpha[alpha == 255] == 255).all()


def test_key_colours_become_alpha(tmp_path: Path) -> None:
    Image.fromarray(noise(1)).save(tmp_path / "a.png", transparency=int(noise(1)[0, 0]))
    found = read_picture(tmp_path / "a.png")
    assert found.kind == "LA"
    np.testing.assert_array_equal(found.colour, noise(1))
    np.testing.assert_array_equal(found.alpha == 0, noise(1) == noise(1)[0, 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_key_colours_of_16_bits(tmp_path: Path, channels: int) -> None:
    deep = noise(channels, np.uint16)
    kind = "L" if channels == 1 else "RGB"
    write_picture(tmp_path / "a.png", Picture(deep, None, kind))
    data = (tmp_path / "a.png").read_bytes()
    chunk = b"tRNS" + np.atleast_1d(deep[2, 3]).astype(">u2").tobytes()
    length, check = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    at = data.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(data[:at] + length + chunk + check + data[at:])
    found = read_picture(tmp_path / "a.png")
    assert (found.kind, found.depth) == (kind + "A", 16)
    np.testing.assert_array_equal(found.colour, deep)
    assert found.alpha is not None
    assert found.alpha[2, 3] == 0
    assert (found.alpha == 65535).sum() == found.alpha.size - 1


def test_webp_without_loss_stays_so(tmp_path: Path) -> None:
    for lossless in (True, False):
        path = tmp_path / f"{lossless}.webp"
        Image.fromarray(noise(4)).save(path, lossless=lossless, exif=exif())
        assert read_picture(path).metadata.lossless is lossless
    write_picture(tmp_path / "again.webp", read_picture(tmp_path / "True.webp"))
    assert read_picture(tmp_path / "again.webp").metadata.lossless


@pytest.mark.parametrize(
    ("kind", "deep", "suffix", "text", "mode"),
    [
        ("RGBA", False, "jpg", "JPEG has no transparency; laid on white", "RGB"),
        ("LA", False, "bmp", "BMP has no transparency; laid on white", "L"),
        ("PA", False, "jpg", "JPEG has no transparency", "RGB"),
        ("RGB", True, "jpg", "JPEG has no 16 bits a sample; rounded to 8", "RGB"),
        ("L", True, "webp", "WEBP has no 16 bits", "RGB"),
        ("RGBA", True, "bmp", "laid on white; BMP has no 16 bits", "RGB"),
        ("CMYK", False, "png", "PNG has no CMYK; written as sRGB", "RGB"),
    ],
)
def test_losses_are_told(
    tmp_path: Path, kind: str, deep: bool, suffix: str, text: str, mode: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    with pytest.warns(PictureWarning, match=text):
        write_picture(path, picture(kind, np.uint16 if deep else np.uint8))
    with Image.open(path) as image:
        assert image.mode == mode


def test_metadata_without_a_place_is_told(tmp_path: Path) -> None:
    for suffix, text in (
        ("bmp", "BMP has no place for an ICC profile and EXIF and text; left out"),
        ("jpg", "JPEG has no place for text; left out"),
    ):
        with pytest.warns(PictureWarning, match=text):
            write_picture(
                tmp_path / f"a.{suffix}", picture("RGB", metadata=full_metadata(text={"a": "b"}))
            )
    grey = bytearray(profile())
    grey[16:20] = b"GRAY"
    with pytest.warns(PictureWarning, match="the ICC profile is for GRAY, not for RGB; left out"):
        write_picture(tmp_path / "a.webp", picture("L", metadata=Metadata(icc=bytes(grey))))


def test_white_under_transparent_parts(tmp_path: Path) -> None:
    colour = np.zeros((16, 16, 3), np.uint8)
    alpha = np.zeros((16, 16), np.uint8)
    alpha[:, 8:] = 255
    with pytest.warns(PictureWarning):
        write_picture(tmp_path / "a.bmp", Picture(colour, alpha, "RGBA"))
    written = read_picture(tmp_path / "a.bmp").colour
    assert (written[:, :8] == 255).all()
    assert (written[:, 8:] == 0).all()


def test_16_bits_become_8_by_rounding(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 65535, 65406, 65407]], np.uint16)
    with pytest.warns(PictureWarning):
        write_picture(tmp_path / "a.bmp", Picture(values, kind="L"))
    assert read_picture(tmp_path / "a.bmp").colour[0].tolist() == [0, 0, 1, 255, 254, 255]


def test_only_the_first_of_several(tmp_path: Path) -> None:
    pages = [Image.fromarray(noise(3)), Image.fromarray(noise(3) // 2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(PictureWarning, match="has 2 images; only the first is read"):
        found = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.colour, noise(3))


def test_what_is_no_picture(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.fromarray(noise(3, np.uint8, 64, 64)).save(whole, "JPEG")
    write_picture(tmp_path / "deep.png", Picture(noise(3, np.uint16, 64, 64)))
    deep = (tmp_path / "deep.png").read_bytes()
    for name, content, text in (
        ("empty.png", b"", r"empty\.png: cannot be read as an image \(the file is empty\)"),
        ("text.png", b"hello", r"text\.png: .*no known format"),
        ("cut.jpg", whole.getvalue()[:900], r"cut\.jpg: cannot be read"),
        ("cut.png", deep[: len(deep) // 2], r"cut\.png: cannot be read"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=text):
            read_picture(tmp_path / name)
    Image.fromarray(noise(1).astype(np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(ImageError, match=r"f\.tif: has mode F; expected 8 bits a sample"):
        read_picture(tmp_path / "f.tif")
    with pytest.raises(FileNotFoundError, match=r"no\.png: no such file"):
        read_picture(tmp_path / "no.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_picture(tmp_path)


def test_damaged_exif_is_told(tmp_path: Path) -> None:
    Image.fromarray(noise(3)).save(tmp_path / "a.png", exif=b"Exif\0\0nonsense here")
    with pytest.warns(PictureWarning, match="EXIF cannot be read and is left out"):
        found = read_picture(tmp_path / "a.png")
    assert found.metadata.exif is None


def test_existing_files_and_bad_arguments(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_picture(path, picture("RGB"))
    before = path.read_bytes()
    with pytest.raises(OutputExistsError):
        write_picture(path, picture("L"))
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=r"unknown suffix '\.gif'; expected one of \.bmp"):
        write_picture(tmp_path / "a.gif", picture("L"))
    with pytest.raises(ValueError, match="expected a quality from 1 to 100, got 0"):
        write_picture(tmp_path / "a.jpg", picture("L"), quality=0)
    assert list(tmp_path.iterdir()) == [path]


def test_quality_counts(tmp_path: Path) -> None:
    sizes = []
    for quality in (30, 95):
        write_picture(
            tmp_path / f"{quality}.jpg", Picture(noise(3, np.uint8, 64, 64)), False, quality
        )
        sizes.append((tmp_path / f"{quality}.jpg").stat().st_size)
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((noise(3), None, "HSV"), ValueError, "expected a kind of 1, L, LA"),
        ((noise(3).astype(float),), TypeError, "uint8 or uint16, got float64"),
        ((noise(3), None, "L"), ValueError, r"expected colour \[H, W\] for L, got \(9, 7, 3\)"),
        ((noise(3), noise(1)), ValueError, "kind RGB and alpha do not agree, got one"),
        ((noise(3), noise(1).astype(np.uint16), "RGBA"), ValueError, r"expected alpha \(9, 7\)"),
    ],
)
def test_bad_pictures(arguments: tuple, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        Picture(*arguments)
