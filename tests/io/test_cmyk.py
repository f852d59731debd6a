"""CMYK: Adobe's inverted JPEGs, and the file's own ICC profile used both ways."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from sparsesr.io import PictureWarning, read_picture, write_picture


def black_ink_profile() -> bytes:
    """A CMYK profile (ICC.1, lut8Type) in which only black ink shows: L = 100 (1 - K)."""

    def lut(channels: tuple[int, int], corners: np.ndarray) -> bytes:
        ramp = bytes(range(256))
        head = struct.pack(">4s4x4B", b"mft1", *channels, 2, 0)
        matrix = struct.pack(">9i", *(np.eye(3).ravel() * 65536).astype(int))
        cells = np.round(corners * 255).astype(np.uint8).tobytes()
        return head + matrix + ramp * channels[0] + cells + ramp * channels[1]

    # The first channel varies slowest; a and b of Lab are 0 at 128.
    to_lab = np.array([(1 - corner % 2, 128 / 255, 128 / 255) for corner in range(16)])
    from_lab = np.array([(0, 0, 0, 1 - corner // 4) for corner in range(8)])
    white = struct.pack(">4s4x3i", b"XYZ ", 63190, 65536, 54061)
    tags = {b"A2B0": lut((4, 3), to_lab), b"B2A0": lut((3, 4), from_lab), b"wtpt": white}
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        content += b"\0" * (-len(content) % 4)
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(data), len(content))
        data += content
    size = 128 + len(table) + len(data)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + white[8:]
    return head.ljust(128, b"\0") + table + data


def test_inks_without_a_profile(tmp_path: Path) -> None:
    import cv2

    path, out = tmp_path / "a.jpg", tmp_path / "b.jpg"
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, :16, 0], inks[:, 16:, 2], inks[8:, :, 3] = 255, 255, 128  # cyan, yellow, darker below
    Image.fromarray(inks, "CMYK").save(path, quality=100, subsampling=0, dpi=(300, 300))
    found = read_picture(path)
    assert (found.kind, found.metadata.dpi) == ("CMYK", (300, 300))
    assert np.abs(found.colour[2, 4].astype(int) - (0, 255, 255)).max() <= 3
    assert np.abs(found.colour[2, 28].astype(int) - (255, 255, 0)).max() <= 3
    write_picture(out, found)
    with Image.open(out) as image:
        assert (image.mode, image.info["dpi"]) == ("CMYK", (300, 300))
    # OpenCV reads inks, inverted as Adobe has them, by code of its own.
    for file in (path, out):
        other = cv2.imread(str(file))[..., ::-1].astype(int)
        assert np.abs(other - found.colour)[2:6, 4:12].max() <= 6
    np.testing.assert_allclose(read_picture(out).colour.astype(int), found.colour, atol=8)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_the_profile_is_used_both_ways(tmp_path: Path, suffix: str) -> None:
    path, out = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[..., 3] = 128
    options = {"quality": 100} if suffix == "jpg" else {}
    Image.fromarray(inks, "CMYK").save(path, icc_profile=black_ink_profile(), **options)
    found = read_picture(path)
    assert np.abs(found.colour.astype(int) - 119).max() <= 2  # sRGB of L = 50
    write_picture(out, found)
    with Image.open(out) as image:
        assert image.info["icc_profile"] == black_ink_profile()
        assert image.mode == "CMYK"
        assert np.abs(np.array(image).astype(int) - (0, 0, 0, 128)).max() <= 4
    with pytest.warns(PictureWarning, match="PNG has no CMYK; written as sRGB"):
        write_picture(tmp_path / "a.png", found)
    assert read_picture(tmp_path / "a.png").metadata.icc is None


def test_a_profile_of_no_use(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("CMYK", (7, 9)).save(tmp_path / "a.jpg", icc_profile=srgb)
    with pytest.warns(PictureWarning, match=r"a\.jpg: its ICC profile cannot be used"):
        found = read_picture(tmp_path / "a.jpg")
    assert (found.colour == 255).all()
