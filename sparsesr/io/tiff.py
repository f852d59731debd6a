"""TIFF files of every kind with EXIF, which Pillow writes into uncompressed ones alone."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np

from sparsesr.io.metadata import XMP_TAG, Metadata

_ROWS_A_STRIP = 64
_PALETTE, _CMYK = 3, 5
_PHOTOMETRIC = {"1": 1, "L": 1, "LA": 1, "P": _PALETTE, "RGB": 2, "RGBA": 2, "CMYK": _CMYK}
_SUB_BLOCKS = (0x8769, 0x8825)  # Exif and GPS
_LONG = 4
_LARGEST = 2**32 - 2**24  # its offsets have 32 bits; the tags come first


def write_tiff_image(file: Any, image: Any, metadata: Metadata, exif: bytes | None) -> None:
    """Write a PIL image of mode 1, L, LA, P, RGB, RGBA or CMYK; see ``write_tiff``."""
    if image.mode == "1":
        rows = np.packbits(np.array(image), axis=1)
        # The packed rows are narrower than the picture.
        write_tiff(file, rows[..., None], "1", metadata, exif, width=image.width)
        return
    planes = np.atleast_3d(np.array(image))
    write_tiff(file, planes, image.mode, metadata, exif, palette=image.getpalette("RGB"))


def write_tiff(
    file: Any,
    planes: np.ndarray,  # [H, W, C] uint8 or uint16
    mode: str,
    metadata: Metadata,
    exif: bytes | None,
    width: int | None = None,
    palette: list[int] | None = None,
) -> None:
    """Write one image, deflated in strips of 64 rows with horizontal differences (TIFF 6.0).

    Args:
        file: open for writing, at its beginning.
        planes: the samples as they are stored.
        mode: what they mean, as Pillow names it.
        metadata: profile and resolution.
        exif: an EXIF block or None.
        width: in pixels, where that is not W.
        palette: R, G, B of each index of a P.

    Raises:
        ValueError: more than 4 GB.
    """
    from PIL import TiffImagePlugin

    height, channels = planes.shape[0], planes.shape[2]
    plain = mode in ("1", "P")  # neighbours' differences mean nothing there
    strips = _strips(planes, differences=not plain)
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    _tell(tags, exif)
    tags[256], tags[257] = width or planes.shape[1], height
    tags[258] = (1 if mode == "1" else 8 * planes.dtype.itemsize,) * channels
    tags[259], tags[317] = 8, 1 if plain else 2
    tags[262] = _PHOTOMETRIC[mode]
    if mode.endswith("A"):
        tags[338] = 2  # alpha that is not multiplied into the colours
    if mode == "P":
        entries = np.zeros(768, int)
        entries[: len(palette or ())] = palette or ()
        tags[320] = tuple((entries.reshape(256, 3).T.ravel() * 257).tolist())
    tags[277], tags[278] = channels, _ROWS_A_STRIP
    sizes = [len(strip) for strip in strips]
    if sum(sizes) > _LARGEST:
        raise ValueError(
            f"a TIFF holds 4 GB, this picture has {sum(sizes) / 1e9:.1f} deflated; write a PNG"
        )
    # Pillow adds where the first strip begins.
    tags[273] = tuple(np.cumsum([0, *sizes[:-1]]).tolist())
    tags[279] = tuple(sizes)
    tags.tagtype[273] = tags.tagtype[279] = _LONG
    if metadata.dpi is not None:
        tags[282], tags[283] = metadata.dpi
        tags[296] = 2
    if metadata.xmp is not None:
        tags[XMP_TAG] = metadata.xmp
    if metadata.icc is not None:
        tags[34675] = metadata.icc
    head = io.BytesIO()
    tags.save(head)
    file.write(head.getvalue())
    file.writelines(strips)


def _strips(planes: np.ndarray, differences: bool) -> list[bytes]:
    strips = []
    for start in range(0, len(planes), _ROWS_A_STRIP):
        rows = planes[start : start + _ROWS_A_STRIP].astype(planes.dtype.newbyteorder("<"))
        if differences:
            rows[:, 1:] -= rows[:, :-1].copy()
        strips.append(zlib.compress(rows.tobytes(), 6))
    return strips


def _tell(tags: Any, exif: bytes | None) -> None:
    """Put the tags of an EXIF block among those of the file."""
    if exif is None:
        return
    from PIL import Image

    block = Image.Exif()
    block.load(exif)
    for tag, value in block.items():
        tags[tag] = block.get_ifd(tag) if tag in _SUB_BLOCKS else value
