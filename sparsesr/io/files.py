"""Image files through Pillow: 8-bit RGB in, PNG, JPEG, WebP, BMP or TIFF out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from sparsesr.io.atomic import atomic_output

READ_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {"compress_level": 4}),
    # 4:4:4: halving the chroma would blur colour edges that were just restored.
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95, "method": 4}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
}
WRITE_SUFFIXES = frozenset(_FORMATS)

# Modes that Pillow would clip or truncate to 8 bits without a word.
_DEEP_MODES = ("I", "F")


class ImageError(ValueError):
    """A file is not an image that can be read; the message names the file."""


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file as 8-bit RGB.

    Grey, palette, CMYK and 1-bit images become RGB, transparency is dropped, and the camera's
    orientation tag is applied. Images of more than 8 bits a sample are refused, not truncated.

    Args:
        path: the file.

    Returns:
        [H, W, 3] uint8.

    Raises:
        FileNotFoundError: no such file.
        ImageError: not an image, broken or cut off, or more than 8 bits a sample.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    if path.is_dir():
        raise ImageError(f"{path}: is a folder; expected an image file")
    try:
        with Image.open(path) as image:
            if image.mode.split(";")[0] in _DEEP_MODES:
                raise ImageError(
                    f"{path}: has mode {image.mode}, more than 8 bits a sample; "
                    "convert it to 8 bits first"
                )
            upright = ImageOps.exif_transpose(image)
            return np.array(upright.convert("RGB"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; check the path") from None
    except (PermissionError, ImageError):
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{path}: cannot be read as an image (no known format)") from None
    # A damaged file surfaces as OSError, SyntaxError, struct.error, EOFError, zlib.error, ...
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ImageError(f"{path}: cannot be read as an image ({reason})") from error


def write_image(
    path: str | os.PathLike[str],
    array: np.ndarray,  # [H, W, 3] uint8
    overwrite: bool = False,
) -> None:
    """Write an 8-bit RGB image; the suffix picks the format, and no half-written file appears.

    Args:
        path: .png, .jpg/.jpeg (quality 95, 4:4:4), .webp, .bmp or .tif/.tiff; its folder exists.
        array: [H, W, 3] uint8, or [H, W] uint8 for a grey image.
        overwrite: replace an existing file.

    Raises:
        OutputExistsError: the file exists and ``overwrite`` is False.
        TypeError: ``array`` is not a uint8 ndarray.
        ValueError: another shape, or a suffix that is not in the list.
    """
    from PIL import Image

    path = Path(path)
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"write_image: expected a uint8 ndarray, got {got}; see io.to_array")
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise ValueError(f"write_image: expected [H, W, 3] or [H, W], got {array.shape}")
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(
            f"write_image: {path.name}: unknown suffix {path.suffix!r}; "
            f"expected one of {', '.join(sorted(_FORMATS))}"
        )
    kind, options = _FORMATS[path.suffix.lower()]
    with atomic_output(path, overwrite) as part, open(part, "wb") as file:
        Image.fromarray(array).save(file, format=kind, **options)


def list_images(path: str | os.PathLike[str], recursive: bool = False) -> list[Path]:
    """Image files of a folder in sorted order, or the file itself if ``path`` is one.

    Args:
        path: a folder, or a file (returned whatever its suffix).
        recursive: look into sub-folders too.

    Returns:
        Paths with a suffix of READ_SUFFIXES; hidden files are left out.

    Raises:
        FileNotFoundError: no such file or folder.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder; check the path")
    entries = path.rglob("*") if recursive else path.iterdir()
    return sorted(
        entry
        for entry in entries
        if entry.suffix.lower() in READ_SUFFIXES
        and not entry.name.startswith(".")
        and entry.is_file()
    )
