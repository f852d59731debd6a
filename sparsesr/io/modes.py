"""Between PIL images of every mode and arrays of colour and alpha."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

_AS_THEY_ARE = {"L": "L", "RGB": "RGB", "1": "1", "LA": "LA", "RGBA": "RGBA"}
_THROUGH = {"La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB"}
_NEARLY_OPAQUE = 250

Split = tuple[np.ndarray, "np.ndarray | None", str, "str | None"]


def colour_and_alpha(image: Any, icc: bytes | None = None) -> Split:
    """Take a PIL image apart.

    Args:
        image: of 8 bits a sample, or grey of 16 (I;16).
        icc: its profile, which says what the inks of CMYK look like.

    Returns:
        Colour [H, W] or [H, W, 3], alpha [H, W] or None, the kind, and a problem to tell or None.

    Raises:
        ValueError: another mode.
    """
    mode, keyed = image.mode, image.info.get("transparency") is not None
    if mode == "CMYK":
        colour, problem = _inks_to_rgb(image, icc)
        return colour, None, "CMYK", problem
    if mode.startswith("I;16"):
        return np.array(image).astype(np.uint16), None, "L", None
    if mode in ("P", "PA"):
        clear = mode == "PA" or keyed
        array = np.array(image.convert("RGBA" if clear else "RGB"))
        return (*_parted(array, "PA" if clear else "P"), None)
    if mode in ("L", "RGB") and keyed:
        # By way of RGBA: Pillow finds the key colour of a grey image there as well.
        array = np.array(image.convert("RGBA"))
        return (*_parted(array[..., [0, 3]] if mode == "L" else array, mode + "A"), None)
    if mode == "1":
        return np.array(image.convert("L")), None, "1", None
    kind = _AS_THEY_ARE.get(mode) or _THROUGH.get(mode)
    if kind is None:
        raise ValueError(
            f"has mode {mode}; expected 8 bits a sample, or PNG or TIFF of 16; convert it first"
        )
    return (*_parted(np.array(image if kind == mode else image.convert(kind)), kind), None)


def _parted(array: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray | None, str]:
    if not kind.endswith("A"):
        return array, None, kind
    colour = array[..., 0] if array.shape[2] == 2 else array[..., :3]
    return np.ascontiguousarray(colour), np.ascontiguousarray(array[..., -1]), kind


def to_image(
    colour: np.ndarray,  # [H, W] or [H, W, 3] uint8
    alpha: np.ndarray | None,  # [H, W] uint8
    mode: str,
    icc: bytes | None = None,
) -> tuple[Any, str | None]:
    """Put a PIL image together.

    1: grey of half and more is white, nothing is dithered. P and PA: the picture's own colours if
    they are at most 256 (PA: with alpha), else the 256 that fit best. CMYK: by the profile ``icc``
    if there is one.

    Args:
        colour: grey or RGB; grey is repeated where ``mode`` asks for colour.
        alpha: for modes with an A.
        mode: 1, L, LA, P, PA, RGB, RGBA or CMYK.
        icc: a profile of CMYK.

    Returns:
        The image, and a problem to tell or None. PA is a P with transparency.
    """
    from PIL import Image

    if mode == "1":
        return Image.fromarray(np.where(colour >= 128, 255, 0).astype(np.uint8)).convert("1"), None
    if mode in ("L", "LA"):
        planes = colour if alpha is None else np.stack([colour, alpha], axis=-1)
        return Image.fromarray(planes), None
    rgb = np.repeat(colour[..., None], 3, axis=2) if colour.ndim == 2 else colour
    if mode == "P":
        return _palette(rgb), None
    if mode == "CMYK":
        return _rgb_to_inks(Image.fromarray(rgb), icc)
    if mode == "RGB":
        return Image.fromarray(rgb), None
    assert alpha is not None, mode
    if mode == "PA":
        return _clear_palette(rgb, alpha), None
    return Image.fromarray(np.dstack([rgb, alpha])), None


def _palette(rgb: np.ndarray) -> Any:
    from PIL import Image

    exact = _few_colours(rgb)
    if exact is not None:
        return exact
    image = Image.fromarray(rgb)
    palette = image.quantize(256, Image.Quantize.MEDIANCUT, kmeans=1)
    return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def _clear_palette(rgb: np.ndarray, alpha: np.ndarray) -> Any:
    """A palette whose entries have alpha of their own; what is transparent or opaque stays so."""
    from PIL import Image

    seen = np.where(alpha[..., None] > 0, rgb, 0).astype(np.uint8)
    planes = np.dstack([seen, alpha])
    exact = _few_colours(planes)
    if exact is not None:
        return exact
    # One index for all that is transparent, the others share out the rest.
    index = np.array(Image.fromarray(planes).quantize(255, Image.Quantize.FASTOCTREE)).astype(int)
    index[alpha == 0] = 255
    opaque = (alpha >= _NEARLY_OPAQUE).ravel()
    entries = np.zeros((256, 4))
    counts = np.maximum(np.bincount(index.ravel(), minlength=256), 1)
    for channel in range(4):
        sums = np.bincount(index.ravel(), planes[..., channel].ravel(), minlength=256)
        entries[:, channel] = sums / counts
    entries[np.bincount(index.ravel(), opaque, minlength=256) > counts / 2, 3] = 255
    return _indexed(index.astype(np.uint8), np.floor(entries + 0.5).astype(np.uint8))


def _few_colours(planes: np.ndarray) -> Any | None:
    """The image with a palette of exactly its colours, or None if they are more than 256."""
    height, width, channels = planes.shape
    packed = np.zeros((height, width), np.uint32)
    for channel in range(channels):
        packed = packed << 8 | planes[..., channel]
    colours, index = np.unique(packed, return_inverse=True)
    if len(colours) > 256:
        return None
    shifts = np.arange(8 * (channels - 1), -1, -8, dtype=np.uint32)
    entries = (colours[:, None] >> shifts & 255).astype(np.uint8)
    return _indexed(index.reshape(height, width).astype(np.uint8), entries)


def _indexed(index: np.ndarray, entries: np.ndarray) -> Any:
    from PIL import Image

    image = Image.fromarray(index).convert("L")
    image.putpalette(entries[:, :3].tobytes())  # which makes it a P
    if entries.shape[1] == 4:
        image.info["transparency"] = entries[:, 3].tobytes()
    return image


def _inks_to_rgb(image: Any, icc: bytes | None) -> tuple[np.ndarray, str | None]:
    converted, problem = _through_profile(image, icc, to_inks=False)
    return np.array(image.convert("RGB") if converted is None else converted), problem


def _rgb_to_inks(image: Any, icc: bytes | None) -> tuple[Any, str | None]:
    converted, problem = _through_profile(image, icc, to_inks=True)
    return (image.convert("CMYK") if converted is None else converted), problem


def _through_profile(image: Any, icc: bytes | None, to_inks: bool) -> tuple[Any | None, str | None]:
    """Between sRGB and the inks of a profile; None and why if the profile is of no use."""
    if icc is None:
        return None, None
    from PIL import ImageCms

    try:
        inks: Any = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        srgb: Any = ImageCms.createProfile("sRGB")
        pair = (srgb, inks) if to_inks else (inks, srgb)
        return ImageCms.profileToProfile(
            image,
            *pair,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="CMYK" if to_inks else "RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        ), None
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        return None, f"its ICC profile cannot be used ({error}); inks are converted without it"
