"""PNG and TIFF of 16 bits a sample, whose colours Pillow cuts to 8 bits without a word."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from sparsesr.io.files import ImageError
from sparsesr.io.metadata import ORIENTATION, XMP_TEXT, Metadata

_ROWS_A_STRIP = 64
_PNG_COLOURS = {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}
_BITS, _PHOTOMETRIC, _FORMAT = 258, 262, 339


def is_deep(image: Any, path: Path) -> bool:
    """Whether a file that Pillow opened has 16 bits a sample."""
    if image.format == "PNG":
        with open(path, "rb") as file:
            return file.read(25)[24:] == b"\x10"  # the bit depth in IHDR
    return image.format == "TIFF" and set(image.tag_v2.get(_BITS, ())) == {16}


def read_deep(image: Any, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Colour and alpha of a file for which ``is_deep`` holds, as they are stored.

    Returns:
        [H, W] or [H, W, 3] uint16 and [H, W] uint16 or None.

    Raises:
        ImageError: samples that are not unsigned integers, or neither grey nor RGB.
    """
    import cv2

    data = bytearray(path.read_bytes())
    if image.format == "TIFF":
        tags = image.tag_v2
        if set(tags.get(_FORMAT, (1,))) != {1} or tags.get(_PHOTOMETRIC) not in (0, 1, 2):
            raise ImageError(
                f"{path}: has mode {image.mode} with 16 bits in another form than unsigned grey "
                "or RGB; convert it to 16-bit RGB first"
            )
        _reset_orientation(data)
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise ImageError(f"{path}: cannot be read as an image of 16 bits")
    if array.ndim == 2:
        white_is_zero = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0
        return (65535 - array if white_is_zero else array), _keyed(array, image)
    alpha = np.ascontiguousarray(array[..., 3]) if array.shape[2] == 4 else None
    if image.format == "PNG" and _png_is_grey(path):
        return np.ascontiguousarray(array[..., 0]), alpha
    return np.ascontiguousarray(array[..., 2::-1]), alpha


def _keyed(grey: np.ndarray, image: Any) -> np.ndarray | None:
    """Alpha from the key colour of a grey PNG, which OpenCV applies to RGB alone."""
    key = image.info.get("transparency") if image.format == "PNG" else None
    return None if key is None else np.where(grey == key, 0, 65535).astype(np.uint16)


def _reset_orientation(data: bytearray) -> None:
    """Orientation 1 in the bytes of a TIFF: OpenCV applies it, or fails at it, by version."""
    order = "<" if data[:2] == b"II" else ">"
    if struct.unpack_from(order + "H", data, 2)[0] != 42:  # BigTIFF has other directories
        return
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from(order + "H", data, entry)[0] == ORIENTATION:
            struct.pack_into(order + "H", data, entry + 8, 1)


def _png_is_grey(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(26)[25] in (0, 4)


def write_deep_png(
    file: Any,
    planes: np.ndarray,  # [H, W, 1 to 4] uint16
    metadata: Metadata,
    exif: bytes | None,
) -> None:
    """Write a 16-bit PNG with its metadata (PNG specification, third edition)."""
    height, width, channels = planes.shape
    colour = _PNG_COLOURS[("L", "LA", "RGB", "RGBA")[channels - 1]]
    file.write(b"\x89PNG\r\n\x1a\n")
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    if metadata.icc is not None:
        _chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.icc))
    for kind, data in metadata.chunks.items():
        _chunk(file, kind, data)
    if metadata.dpi is not None:
        per_metre = [int(side / 0.0254 + 0.5) for side in metadata.dpi]
        _chunk(file, b"pHYs", struct.pack(">IIB", *per_metre, 1))
    if exif is not None:
        _chunk(file, b"eXIf", exif.removeprefix(b"Exif\0\0"))
    texts = {name: text.encode() for name, text in metadata.text.items()}
    if metadata.xmp is not None:
        texts[XMP_TEXT] = metadata.xmp
    for name, text in texts.items():
        _chunk(file, b"iTXt", name.encode("latin-1", "replace") + b"\0" * 5 + text)
    packer = zlib.compressobj(4)
    rows = planes.astype(">u2").view(np.uint8).reshape(height, width * channels * 2)
    above = np.zeros_like(rows[0])
    for start in range(0, height, _ROWS_A_STRIP):
        strip = rows[start : start + _ROWS_A_STRIP]
        _chunk(file, b"IDAT", packer.compress(_filtered(strip, above, channels * 2)))
        above = strip[-1]
    _chunk(file, b"IDAT", packer.flush())
    _chunk(file, b"IEND", b"")


def _chunk(file: Any, name: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + name + data)
    file.write(struct.pack(">I", zlib.crc32(name + data)))


def _filtered(rows: np.ndarray, above: np.ndarray, step: int) -> bytes:
    """Each row less its left neighbour or less the row above, whichever leaves less."""
    left = np.zeros_like(rows)
    left[:, step:] = rows[:, :-step]
    # The filters' numbers are 1 (Sub) and 2 (Up); bytes wrap around as the format has it.
    choices = np.stack([rows - left, rows - np.concatenate([above[None], rows[:-1]])])
    cost = np.abs(choices.view(np.int8).astype(np.int16)).sum(axis=2)
    best = cost.argmin(axis=0)
    chosen = choices[best, np.arange(len(rows))]
    return np.concatenate([(best + 1).astype(np.uint8)[:, None], chosen], axis=1).tobytes()
