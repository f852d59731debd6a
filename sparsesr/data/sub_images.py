"""Photographs cut into overlapping sub-images, HR and LR, for trainings that read files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np

from sparsesr.data.hr_folder import read, with_lr
from sparsesr.data.pairs import ImagePair
from sparsesr.io import write_image


def corners(length: int, crop: int, step: int) -> list[int]:
    """Where crops begin along a side: every `step`, and a last one flush with the end."""
    starts = list(range(0, length - crop + 1, step))
    if starts and starts[-1] + crop < length:
        starts.append(length - crop)
    return starts


def check_cut(scales: list[int], crop: int, step: int) -> None:
    """ValueError unless crop and step are positive and every scale divides them."""
    for name, value in (("crop", crop), ("step", step)):
        if value < 1:
            raise ValueError(f"{name}: expected a number of HR pixels >= 1, got {value}")
        for scale in scales:
            if value % scale:
                raise ValueError(
                    f"{name}: scale {scale} does not divide {value}, so LR could not be cut in "
                    f"whole pixels; take e.g. {math.ceil(value / scale) * scale}"
                )


def sub_image_name(photo: Path, number: int) -> str:
    """`0001_s001.png`: the photograph's stem and the sub-image's number from 1."""
    return f"{photo.stem}_s{number:03d}.png"


def lr_folder(output: Path, scale: int) -> Path:
    """The folder of LR sub-images, beside the folder `HR`."""
    return output / f"LRx{scale}"


def write_sub_images(
    pairs: Mapping[int, ImagePair],
    output: Path,
    crop: int,
    step: int,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> tuple[int, int]:
    """Cut one photograph into `output`/HR and `output`/LRx{s}.

    HR is cropped at the top left to what every scale divides. LR is cut from the LR image of the
    whole photograph (its file, or the MATLAB bicubic reduction), at crop / s and step / s.

    Args:
        pairs: the photograph by scale. crop, step: HR pixels, see `check_cut`.
        overwrite: replace files. skip_existing: leave the files that are there as they are.
    Returns:
        Number of sub-images, and how many files were written.
    Raises:
        ImageError: a file that cannot be read. ValueError: a photograph smaller than the crop.
        OutputExistsError: a file exists and neither option was given.
    """
    photo = next(iter(pairs.values())).hr
    image = read(photo)
    multiple = math.lcm(*pairs)
    height, width = (side // multiple * multiple for side in image.shape[:2])
    if min(height, width) < crop:
        raise ValueError(
            f"{photo} is {image.shape[1]}x{image.shape[0]}: smaller than the crop of {crop}x{crop} "
            "at these scales; use a smaller crop"
        )
    places = list(product(corners(height, crop, step), corners(width, crop, step)))
    names = [sub_image_name(photo, number) for number in range(1, len(places) + 1)]
    written = 0
    for scale in (None, *pairs):
        folder = output / "HR" if scale is None else lr_folder(output, scale)
        todo = [
            (folder / name, place)
            for name, place in zip(names, places, strict=True)
            if not (skip_existing and (folder / name).exists())
        ]
        if todo:
            source = image if scale is None else with_lr(pairs[scale], scale, image)[1]
            for path, (y, x) in todo:
                ratio = scale or 1
                piece = _cut(source, y // ratio, x // ratio, crop // ratio)
                write_image(path, piece, overwrite)
        written += len(todo)
    return len(places), written


def _cut(image: np.ndarray, y: int, x: int, side: int) -> np.ndarray:
    return np.ascontiguousarray(image[y : y + side, x : x + side])
