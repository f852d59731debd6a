"""XMP and what a PNG says of its colours, through every format that has a place for them."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from sparsesr.io import Metadata, Picture, PictureWarning, read_picture, write_picture

XMP = (
    b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description '
    b'tiff:Orientation="%d" tiff:ImageWidth="%d" exif:PixelYDimension="%d">'
    b"<dc:creator>Someone</dc:creator></rdf:Description></x:xmpmeta>"
)
GAMMA, PRIMARIES = struct.pack(">I", 100000), struct.pack(">8I", *range(30000, 30008))


def picture(depth: int = 8, **told: object) -> Picture:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (6, 9, 3)).astype(np.uint16 if depth == 16 else np.uint8)
    return Picture(colour, metadata=Metadata(**told))  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_xmp_is_kept(tmp_path: Path, suffix: str) -> None:
    write_picture(tmp_path / f"p.{suffix}", picture(xmp=XMP % (1, 3, 2)))
    read = read_picture(tmp_path / f"p.{suffix}")
    assert read.metadata.xmp == XMP % (1, 9, 6)  # the size is that of this picture
    assert read.metadata.text == {}


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_of_16_bits_too(tmp_path: Path, suffix: str) -> None:
    write_picture(tmp_path / f"p.{suffix}", picture(16, xmp=XMP % (1, 9, 6)))
    read = read_picture(tmp_path / f"p.{suffix}")
    assert (read.depth, read.metadata.xmp) == (16, XMP % (1, 9, 6))


@pytest.mark.parametrize("form", ["attribute", "element"])
def test_its_orientation_is_applied_and_reset(tmp_path: Path, form: str) -> None:
    xmp = XMP % (6, 9, 6)
    if form == "element":
        xmp = b"<x><tiff:Orientation>6</tiff:Orientation></x>"
    original = picture()
    Image.fromarray(original.colour).save(tmp_path / "p.webp", lossless=True, xmp=xmp)
    read = read_picture(tmp_path / "p.webp")
    np.testing.assert_array_equal(read.colour, np.rot90(original.colour, -1))
    assert read.metadata.xmp is not None
    assert b"6</" not in read.metadata.xmp
    assert b'Orientation="6"' not in read.metadata.xmp
    write_picture(tmp_path / "q.webp", read)
    again = read_picture(tmp_path / "q.webp")
    np.testing.assert_array_equal(again.colour, read.colour)


def test_xmp_that_finds_no_place(tmp_path: Path) -> None:
    with pytest.warns(PictureWarning, match="BMP has no place for XMP"):
        write_picture(tmp_path / "p.bmp", picture(xmp=XMP % (1, 9, 6)))
    with pytest.warns(PictureWarning, match="XMP is larger than JPEG's 64 KiB"):
        write_picture(tmp_path / "p.jpg", picture(xmp=b"x" * 65505))
    assert read_picture(tmp_path / "p.jpg").metadata.xmp is None
    write_picture(tmp_path / "q.jpg", picture(xmp=b"x" * 65504))
    assert read_picture(tmp_path / "q.jpg").metadata.xmp == b"x" * 65504


def colours(path: Path) -> dict[bytes, bytes]:
    return read_picture(path).metadata.chunks


@pytest.mark.parametrize("depth", [8, 16])
def test_what_a_png_says_of_its_colours(tmp_path: Path, depth: int) -> None:
    chunks = {b"gAMA": GAMMA, b"cHRM": PRIMARIES}
    write_picture(tmp_path / "p.png", picture(depth, chunks=chunks))
    assert colours(tmp_path / "p.png") == chunks
    with Image.open(tmp_path / "p.png") as image:
        assert image.info["gamma"] == 1.0  # linear light


def test_chunks_of_other_programs(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", GAMMA)
    info.add_text("Author", "Someone")
    Image.fromarray(picture().colour).save(tmp_path / "p.png", pnginfo=info)
    assert colours(tmp_path / "p.png") == {b"gAMA": GAMMA}


@pytest.mark.parametrize(
    ("chunks", "warned"),
    [
        ({b"gAMA": GAMMA}, True),
        ({b"cICP": b"\x09\x10\x00\x01"}, True),
        ({b"gAMA": struct.pack(">I", 45455)}, False),  # what is shown without it
        ({b"sRGB": b"\0", b"gAMA": GAMMA}, False),  # sRGB counts
        ({}, False),
    ],
)
def test_a_gamma_is_not_lost_silently(
    tmp_path: Path, chunks: dict[bytes, bytes], warned: bool
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_picture(tmp_path / "p.jpg", picture(chunks=chunks))
    assert [str(each.message) for each in caught] == (
        [f"{tmp_path / 'p.jpg'}: JPEG has no place for a gamma; left out"] if warned else []
    )
