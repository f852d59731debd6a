"""Pictures into files: in kind where the format can, with a warning where it cannot."""

from __future__ import annotations

import dataclasses
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsesr.io.atomic import atomic_output
from sparsesr.io.deep import write_deep_png
from sparsesr.io.files import WRITE_SUFFIXES
from sparsesr.io.metadata import XMP_TEXT, Metadata, exif_for, icc_space, xmp_for
from sparsesr.io.modes import to_image
from sparsesr.io.picture import Picture, PictureWarning
from sparsesr.io.tiff import write_tiff, write_tiff_image

_SPACES = {"1": "GRAY", "L": "GRAY", "LA": "GRAY", "CMYK": "CMYK"}

_LARGEST_JPEG_EXIF = 65533
_LARGEST_JPEG_XMP = 65504


@dataclass(frozen=True)
class _Format:
    """What a format holds; ``kinds`` maps a kind it cannot store to the next that it can."""

    name: str
    kinds: dict[str, str]
    alpha: bool = True
    deep: bool = False
    exif: bool = True  # and XMP
    icc: bool = True
    text: bool = False  # and chunks


_TO_RGB = {"CMYK": "RGB"}
_JPEG = _Format("JPEG", {"1": "L", "P": "RGB"}, alpha=False)
_WEBP = _Format(
    "WEBP", {"1": "RGB", "L": "RGB", "P": "RGB", "LA": "RGBA", "PA": "RGBA", "CMYK": "RGB"}
)
# Hardly any program reads palettes with alpha from a TIFF.
_TIFF = _Format("TIFF", {"PA": "RGBA"}, deep=True)
_FORMATS = {
    ".png": _Format("PNG", _TO_RGB, deep=True, text=True),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _WEBP,
    ".bmp": _Format("BMP", _TO_RGB, alpha=False, exif=False, icc=False),
    ".tif": _TIFF,
    ".tiff": _TIFF,
}
assert set(_FORMATS) == WRITE_SUFFIXES


def write_picture(
    path: str | os.PathLike[str],
    picture: Picture,
    overwrite: bool = False,
    quality: int = 95,
) -> None:
    """Write a picture in its kind, depth and with its metadata; no half-written file appears.

    What the format cannot hold is told by one PictureWarning and the rest is written: transparent
    parts are laid on white (JPEG, BMP), 16 bits become 8 (JPEG, WebP, BMP), CMYK becomes sRGB
    (all but JPEG and TIFF), EXIF, XMP, profile, text or a gamma are left out. A palette becomes RGB
    and 1-bit grey where the format has neither, and RGBA stands for LA in WebP (in TIFF of 16 bits
    too) and for PA in TIFF; that loses nothing. 1-bit pictures are cut at half grey, not dithered;
    palettes are made anew from the picture.

    Args:
        path: .png, .jpg/.jpeg, .webp, .bmp or .tif/.tiff; its folder exists.
        picture: what to write.
        overwrite: replace an existing file.
        quality: 1 to 100, of JPEG (colour at full resolution) and WebP; a picture that was a WebP
            without loss stays without.

    Raises:
        OutputExistsError: the file exists and ``overwrite`` is False.
        ValueError: a suffix that is not in the list, or another quality.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(
            f"write_picture: {path.name}: unknown suffix {path.suffix!r}; "
            f"expected one of {', '.join(sorted(_FORMATS))}"
        )
    if not 1 <= quality <= 100:
        raise ValueError(f"write_picture: expected a quality from 1 to 100, got {quality}")
    target = _FORMATS[path.suffix.lower()]
    fitted, lost = _fitted(picture, target)
    height, width = fitted.colour.shape[:2]
    exif = None
    if target.exif:
        exif = exif_for(fitted.metadata, width, height, with_dpi=target.name == "WEBP")
    if target.name == "JPEG" and exif is not None and len(exif) > _LARGEST_JPEG_EXIF:
        exif = None
        lost.append("EXIF is larger than JPEG's 64 KiB; left out")
    xmp = xmp_for(fitted.metadata, width, height)
    if target.name == "JPEG" and xmp is not None and len(xmp) > _LARGEST_JPEG_XMP:
        xmp = None
        lost.append("XMP is larger than JPEG's 64 KiB; left out")
    fitted = dataclasses.replace(fitted, metadata=dataclasses.replace(fitted.metadata, xmp=xmp))
    with atomic_output(path, overwrite) as part, open(part, "wb") as file:
        if fitted.depth == 16:
            _write_deep(file, fitted, target, exif)
        else:
            lost += _write_shallow(file, fitted, target, exif, quality)
    if lost:
        warnings.warn(f"{path}: {'; '.join(lost)}", PictureWarning, stacklevel=2)


def _fitted(picture: Picture, target: _Format) -> tuple[Picture, list[str]]:
    """The picture as the format can hold it, and what is lost thereby."""
    colour, alpha, kind, lost = picture.colour, picture.alpha, picture.kind, []
    if alpha is not None and not target.alpha:
        colour, alpha, kind = _on_white(picture), None, kind[:-1]
        if (picture.alpha != picture.top).any():  # type: ignore[union-attr]  # it has one
            lost.append(f"{target.name} has no transparency; laid on white")
    if picture.depth == 16 and not target.deep:
        colour, alpha = _eight_bit(colour), None if alpha is None else _eight_bit(alpha)
        lost.append(f"{target.name} has no 16 bits a sample; rounded to 8")
    if kind == "CMYK" and target.kinds.get(kind):
        lost.append(f"{target.name} has no CMYK; written as sRGB")
    kind = target.kinds.get(kind, kind)
    if kind in ("RGB", "RGBA") and colour.ndim == 2:
        colour = np.repeat(colour[..., None], 3, axis=2)
    metadata = _fitted_metadata(picture, kind, target, lost)
    return Picture(np.ascontiguousarray(colour), alpha, kind, metadata), lost


def _fitted_metadata(picture: Picture, kind: str, target: _Format, lost: list[str]) -> Metadata:
    had = picture.metadata
    icc, exif, text = had.icc, had.exif, had.text
    if picture.kind == "CMYK" and kind != "CMYK":
        icc = None  # the colours are sRGB's, no longer those of the inks
    elif icc is not None and kind != picture.kind and icc_space(icc) != _SPACES.get(kind, "RGB"):
        lost.append(f"the ICC profile is for {icc_space(icc)}, not for {kind}; left out")
        icc = None
    names = [
        name
        for name, has, holds in (
            ("an ICC profile", icc is not None, target.icc),
            ("EXIF", exif is not None, target.exif),
            ("XMP", had.xmp is not None, target.exif),
            ("text", bool(text), target.text),
            ("a gamma", had.gamma_matters, target.text),
        )
        if has and not holds
    ]
    if names:
        lost.append(f"{target.name} has no place for {' and '.join(names)}; left out")
    return dataclasses.replace(
        had,
        icc=icc if target.icc else None,
        exif=exif if target.exif else None,
        text=text if target.text else {},
        xmp=had.xmp if target.exif else None,
        chunks=had.chunks if target.text else {},
    )


def _on_white(picture: Picture) -> np.ndarray:
    assert picture.alpha is not None
    share = picture.alpha.astype(np.float64) / picture.top
    if not picture.grey:
        share = share[..., None]
    mixed = picture.colour * share + picture.top * (1 - share)
    return np.floor(mixed + 0.5).astype(picture.colour.dtype)


def _eight_bit(array: np.ndarray) -> np.ndarray:
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _write_deep(file: Any, picture: Picture, target: _Format, exif: bytes | None) -> None:
    colour, alpha, kind = picture.colour, picture.alpha, picture.kind
    if target.name == "TIFF" and kind == "LA":
        # Few programs read grey with alpha from a TIFF of 16 bits.
        colour, kind = np.repeat(colour[..., None], 3, axis=2), "RGBA"
    planes = np.dstack([colour] if alpha is None else [colour, alpha])
    if target.name == "PNG":
        write_deep_png(file, planes, picture.metadata, exif)
    else:
        write_tiff(file, planes, kind, picture.metadata, exif)


def _write_shallow(
    file: Any, picture: Picture, target: _Format, exif: bytes | None, quality: int
) -> list[str]:
    """Write 8 bits through Pillow; what is lost by it."""
    metadata = picture.metadata
    image, problem = to_image(picture.colour, picture.alpha, picture.kind, metadata.icc)
    told = [] if problem is None else [problem]
    if target.name == "TIFF":
        write_tiff_image(file, image, metadata, exif)
        return told
    options = _options(target, metadata, quality)
    if exif is not None:
        options["exif"] = exif
    if metadata.icc is not None:
        options["icc_profile"] = metadata.icc
    if metadata.xmp is not None and target.name != "PNG":
        options["xmp"] = metadata.xmp
    if metadata.dpi is not None and target.name != "WEBP":
        options["dpi"] = metadata.dpi
    image.save(file, format=target.name, **options)
    return told


def _options(target: _Format, metadata: Metadata, quality: int) -> dict[str, Any]:
    if target.name == "PNG":
        from PIL import PngImagePlugin

        text = PngImagePlugin.PngInfo()
        for name, value in metadata.text.items():
            text.add_text(name, value)
        for chunk, data in metadata.chunks.items():
            text.add(chunk, data)
        if metadata.xmp is not None:
            text.add_itxt(XMP_TEXT, metadata.xmp.decode("utf-8", "replace"))
        return {"compress_level": 4, "pnginfo": text}
    if target.name == "JPEG":
        # 4:4:4: halving the chroma would blur colour edges that were just restored.
        return {"quality": quality, "subsampling": 0}
    if target.name == "WEBP":
        # ``exact`` keeps colours under transparent pixels, which were bled there.
        return {"quality": quality, "method": 4, "lossless": metadata.lossless, "exact": True}
    return {}
