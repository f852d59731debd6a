"""What a file says beside its pixels: EXIF, XMP, ICC profile, resolution, text."""

from __future__ import annotations

import dataclasses
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ORIENTATION = 0x0112
_EXIF_IFD, _PIXEL_WIDTH, _PIXEL_HEIGHT = 0x8769, 0xA002, 0xA003

# Tags of a TIFF that tell of the picture, not of how this file stores it: names and camera,
# orientation, software, date, artist, host, copyright, Exif and GPS.
_TELLING = frozenset(
    {269, 270, 271, 272, ORIENTATION, 285, 305, 306, 315, 316, 33432, 34665, 34853}
)
# ... and those of an EXIF block that would contradict the file it is written to.
_STORAGE = frozenset({256, 257, 258, 259, 262, 273, 277, 278, 279, 513, 514, 34675})
XMP_TAG = 700
_XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))[1-8]')
_XMP_WIDTH = re.compile(rb'((?:tiff:ImageWidth|exif:PixelXDimension)(?:="|>))\d+')
_XMP_HEIGHT = re.compile(rb'((?:tiff:ImageLength|exif:PixelYDimension)(?:="|>))\d+')

# Chunks of a PNG that say which colours its numbers mean.
_COLOUR_CHUNKS = (b"cHRM", b"gAMA", b"sRGB", b"cICP")
_USUAL_GAMMA = struct.pack(">I", 45455)

# Text of a PNG that holds metadata of another kind, with another orientation perhaps.
XMP_TEXT = "XML:com.adobe.xmp"
_NO_TEXT = (XMP_TEXT, "Raw profile type")


@dataclass(frozen=True)
class Metadata:
    """What is kept of a file beside its pixels.

    Attributes:
        exif: an EXIF block, orientation 1, or None.
        icc: an ICC profile or None.
        dpi: horizontal and vertical resolution or None.
        text: the text of a PNG.
        lossless: the file was a WebP without loss, and will be one again.
        xmp: an XMP packet, orientation 1, or None.
        chunks: those of a PNG that tell its colours (gAMA, cHRM, sRGB, cICP), as they are stored.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: dict[str, str] = field(default_factory=dict)
    lossless: bool = False
    xmp: bytes | None = None
    chunks: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def gamma_matters(self) -> bool:
        """Whether the chunks say something that a viewer without them would show otherwise."""
        if self.icc is not None or b"sRGB" in self.chunks:
            return False
        return b"cICP" in self.chunks or self.chunks.get(b"gAMA", _USUAL_GAMMA) != _USUAL_GAMMA


def read_metadata(image: Any, path: Path) -> tuple[Metadata, str]:
    """Metadata of an opened and loaded PIL image, and the name of what could not be read.

    Args:
        image: as Pillow opened it.
        path: its file.

    Returns:
        The metadata, orientation as it is; "EXIF" or "".
    """
    exif, lost = None, ""
    try:
        found = image.getexif()
        for tag in list(found):
            if tag in _STORAGE or (image.format == "TIFF" and tag not in _TELLING):
                del found[tag]
        found.get_ifd(_EXIF_IFD)
        if len(found):
            exif = found.tobytes()
    except Exception:  # Pillow's parser raises whatever the damage leads it to
        lost = "EXIF"
    dpi = image.info.get("dpi")
    dpi = tuple(float(side) for side in dpi) if dpi is not None else None
    return (
        Metadata(
            exif,
            image.info.get("icc_profile") or None,
            dpi if dpi is not None and len(dpi) == 2 and min(dpi) > 0 else None,
            _text(image),
            image.format == "WEBP" and is_lossless_webp(path),
            _xmp(image),
            _colour_chunks(path) if image.format == "PNG" else {},
        ),
        lost,
    )


def _xmp(image: Any) -> bytes | None:
    found = image.info.get("xmp")
    if image.format == "TIFF":
        found = image.tag_v2.get(XMP_TAG)
    if isinstance(found, tuple):  # of numbers, as some files have it
        found = bytes(found)
    return found.encode() if isinstance(found, str) else found or None


def _colour_chunks(path: Path) -> dict[bytes, bytes]:
    found = {}
    with open(path, "rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            size = int.from_bytes(head[:4], "big")
            data = file.read(size)
            if head[4:] in _COLOUR_CHUNKS and len(data) == size:
                found[head[4:]] = data
            file.seek(4, 1)
    return found


def _text(image: Any) -> dict[str, str]:
    found = getattr(image, "text", None) or {} if image.format == "PNG" else {}
    return {name: str(value) for name, value in found.items() if not str(name).startswith(_NO_TEXT)}


def is_lossless_webp(path: Path) -> bool:
    """Whether the first image of a WebP is in the format without loss (chunk ``VP8L``)."""
    with open(path, "rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] in (b"VP8L", b"VP8 "):
                return head[:4] == b"VP8L"
            # A frame of an animation holds its image behind 16 bytes of its own.
            file.seek(16 if head[:4] == b"ANMF" else size + size % 2, 1)
    return False


def upright_metadata(metadata: Metadata) -> tuple[Metadata, int]:
    """The metadata with orientation 1, and the orientation there was (1 to 8)."""
    if metadata.xmp is not None:
        metadata = dataclasses.replace(metadata, xmp=_XMP_ORIENTATION.sub(rb"\g<1>1", metadata.xmp))
    if metadata.exif is None:
        return metadata, 1
    exif = _parsed(metadata.exif)
    orientation = exif.get(ORIENTATION, 1)
    if orientation == 1:
        return metadata, 1
    exif[ORIENTATION] = 1
    reset = dataclasses.replace(metadata, exif=exif.tobytes())
    return reset, orientation if orientation in range(2, 9) else 1


def exif_for(metadata: Metadata, width: int, height: int, with_dpi: bool = False) -> bytes | None:
    """The EXIF block to write beside a picture of this size.

    Args:
        metadata: of the picture.
        width, height: replace the size that the block may state, which was that of the LR picture.
        with_dpi: put the resolution into it, for a format that has no other place.

    Returns:
        The block, or None if there is nothing to say.
    """
    if metadata.exif is None and not (with_dpi and metadata.dpi is not None):
        return None
    exif = _parsed(metadata.exif)
    details = exif.get_ifd(_EXIF_IFD)
    for tag, side in ((_PIXEL_WIDTH, width), (_PIXEL_HEIGHT, height)):
        if tag in details:
            details[tag] = side
    if with_dpi and metadata.dpi is not None:
        exif[0x011A], exif[0x011B] = metadata.dpi
        exif[0x0128] = 2  # inches
    return exif.tobytes()


def xmp_for(metadata: Metadata, width: int, height: int) -> bytes | None:
    """The XMP packet to write beside a picture of this size, stated in it where it states one."""
    if metadata.xmp is None:
        return None
    sized = _XMP_WIDTH.sub(rb"\g<1>%d" % width, metadata.xmp)
    return _XMP_HEIGHT.sub(rb"\g<1>%d" % height, sized)


def _parsed(block: bytes | None) -> Any:
    from PIL import Image

    exif = Image.Exif()
    if block is not None:
        exif.load(block)
    return exif


def icc_space(profile: bytes) -> str:
    """The colour space of an ICC profile: RGB, GRAY, CMYK, ... (ICC.1, header bytes 16 to 19)."""
    return profile[16:20].decode("ascii", "replace").strip()
