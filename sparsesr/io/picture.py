"""Pictures as people have them: any mode and depth, with what the file says beside the pixels."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sparsesr.io.deep import is_deep, read_deep
from sparsesr.io.files import ImageError
from sparsesr.io.metadata import ORIENTATION, Metadata, read_metadata, upright_metadata
from sparsesr.io.modes import colour_and_alpha

KINDS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK")

# Of the formats with several images in a file; a phone's MPO is a JPEG with a preview behind it.
_SEVERAL = ("TIFF", "WEBP", "PNG")


class PictureWarning(UserWarning):
    """Something of a picture could not be kept; the text says what and why."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One upright picture.

    Attributes:
        colour: [H, W, 3] or, for kinds 1, L and LA, [H, W]; uint8 or uint16, full range. Colours
            of a CMYK picture are those of sRGB.
        alpha: [H, W] of the same dtype, 0 transparent, not multiplied into ``colour``; or None.
        kind: the mode it came in, one of KINDS (PA: a palette with transparency). The depth is
            that of ``colour``.
        metadata: EXIF, XMP, ICC profile, resolution and text.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    kind: str = "RGB"
    metadata: Metadata = field(default_factory=Metadata)

    def __post_init__(self) -> None:
        colour, alpha = self.colour, self.alpha
        if self.kind not in KINDS:
            raise ValueError(f"Picture: expected a kind of {', '.join(KINDS)}, got {self.kind!r}")
        if colour.dtype not in (np.uint8, np.uint16):
            raise TypeError(f"Picture: expected colour of uint8 or uint16, got {colour.dtype}")
        channels = () if self.grey else (3,)
        if colour.shape[2:] != channels or colour.ndim < 2:
            expected = "[H, W]" if self.grey else "[H, W, 3]"
            raise ValueError(
                f"Picture: expected colour {expected} for {self.kind}, got {colour.shape}"
            )
        if (alpha is not None) != (self.kind in ("LA", "PA", "RGBA")):
            got = "none" if alpha is None else "one"
            raise ValueError(f"Picture: kind {self.kind} and alpha do not agree, got {got}")
        if alpha is not None and (alpha.shape, alpha.dtype) != (colour.shape[:2], colour.dtype):
            raise ValueError(
                f"Picture: expected alpha {colour.shape[:2]} {colour.dtype}, "
                f"got {alpha.shape} {alpha.dtype}"
            )

    @property
    def grey(self) -> bool:
        """One channel of colour."""
        return self.kind in ("1", "L", "LA")

    @property
    def depth(self) -> int:
        """Bits a sample: 8 or 16 (1-bit pictures hold 0 and 255)."""
        return 8 * self.colour.dtype.itemsize

    @property
    def top(self) -> int:
        """The value of white and of opaque: 255 or 65535."""
        return int(np.iinfo(self.colour.dtype).max)


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Read an image file with everything that makes its kind.

    The camera's orientation is applied and its tag set to 1. Key colours and palettes with
    transparency get an alpha channel. PNG and TIFF of 16 bits keep them. CMYK becomes sRGB, by
    the file's ICC profile if it has one. Of several images in a file the first is read, with a
    PictureWarning.

    Args:
        path: PNG, JPEG, WebP, TIFF or BMP.

    Returns:
        The picture; ``write_picture`` brings it back in kind.

    Raises:
        FileNotFoundError: no such file.
        ImageError: not an image, broken or cut off, or of a mode that has no place here (32-bit
            and floating samples, LAB).
    """
    from PIL import UnidentifiedImageError

    path = Path(path)
    if path.is_dir():
        raise ImageError(f"{path}: is a folder; expected an image file")
    try:
        return _read(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; check the path") from None
    except (PermissionError, ImageError):
        raise
    except UnidentifiedImageError:
        empty = "the file is empty" if path.stat().st_size == 0 else "no known format"
        raise ImageError(f"{path}: cannot be read as an image ({empty})") from None
    # A damaged file surfaces as OSError, SyntaxError, struct.error, EOFError, zlib.error, ...
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ImageError(f"{path}: cannot be read as an image ({reason})") from error


def _read(path: Path) -> Picture:
    from PIL import Image

    with Image.open(path) as image:
        if image.format in _SEVERAL and getattr(image, "n_frames", 1) > 1:
            _warn(f"{path}: has {image.n_frames} images; only the first is read")
        # Where a PNG has its metadata at the end, they are known once it is loaded; a TIFF's
        # orientation is known until then, for Pillow applies it.
        told = read_metadata(image, path) if image.format == "TIFF" else None
        # 16-bit files too: OpenCV would return half a picture of a file that was cut off.
        image.load()
        found, lost = told or read_metadata(image, path)
        metadata, orientation = upright_metadata(found)
        if is_deep(image, path):
            colour, alpha = read_deep(image, path)
            kind = ("L" if colour.ndim == 2 else "RGB") + ("A" if alpha is not None else "")
        else:
            colour, alpha, kind = split_image(image, str(path), found.icc)
            if image.format == "TIFF" and ORIENTATION not in image.tag_v2:
                orientation = 1
    if lost:
        _warn(f"{path}: its {lost} cannot be read and is left out")
    return Picture(
        _upright(colour, orientation),
        None if alpha is None else _upright(alpha, orientation),
        kind,
        metadata,
    )


def split_image(
    image: Any, name: str, icc: bytes | None
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Colour, alpha and kind of a PIL image of 8 bits or of grey of 16.

    Raises:
        ImageError: a mode that has no place here.
    """
    try:
        colour, alpha, kind, problem = colour_and_alpha(image, icc)
    except ValueError as error:
        raise ImageError(f"{name}: {error}") from None
    if problem is not None:
        _warn(f"{name}: {problem}")
    return colour, alpha, kind


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo a camera's orientation (EXIF 2.3, tag 0x0112): mirrored, then turned."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


def _warn(text: str) -> None:
    warnings.warn(text, PictureWarning, stacklevel=4)
