"""Data sets: which LR image belongs to which HR image, and both as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sparsesr.data.layouts import find_folders
from sparsesr.io import list_images, read_image, to_tensor
from sparsesr.metrics import imresize


@dataclass(frozen=True)
class ImagePair:
    """One image: `name` (file stem), the HR file, and the LR file or None (made from HR)."""

    name: str
    lr: Path | None
    hr: Path


def check_scale(scale: int) -> None:
    """Raise TypeError or ValueError unless `scale` is an int >= 1."""
    if isinstance(scale, bool) or not isinstance(scale, int):
        raise TypeError(f"scale: expected an int, got {type(scale).__name__}")
    if scale < 1:
        raise ValueError(f"scale: expected an int >= 1, got {scale}")


def paired_images(root: str | Path, scale: int, *, training: bool = False) -> list[ImagePair]:
    """The image pairs of a data set, ordered by name.

    `root` holds HR images directly, or a folder of them and maybe one of LR images, named as in
    `sparsesr.data.layouts`: `HR/` and `LRx{scale}/`, `GTmod12/` and `LRbicx{scale}/`, ... An LR
    file has the HR file's stem, or that and `x{scale}`. Without an LR folder for this scale
    `load_pair` makes the LR images itself. `training`: prefer folders of training sets.

    Raises FileNotFoundError when the folder is missing, ValueError when it holds no image or when
    an HR or an LR image has no partner.
    """
    check_scale(scale)
    hr_dir, lr_dir = find_folders(root, scale, training=training)
    hr_files = sorted(list_images(hr_dir), key=lambda path: path.name)
    if not hr_files:
        raise ValueError(f"no images in {hr_dir}: expected PNG or JPEG files")
    if lr_dir is None:
        return [ImagePair(path.stem, None, path) for path in hr_files]
    lr_files = _partners(hr_files, lr_dir, scale)
    return [ImagePair(hr.stem, lr, hr) for hr, lr in zip(hr_files, lr_files, strict=True)]


def _partners(hr_files: list[Path], lr_dir: Path, scale: int) -> list[Path]:
    """The LR file of each HR file; every file of `lr_dir` must be one."""
    there = list_images(lr_dir)
    by_stem = {path.stem: path for path in there}
    partners = []
    for path in hr_files:
        lr = by_stem.get(path.stem) or by_stem.get(f"{path.stem}x{scale}")
        if lr is None:
            raise ValueError(f"{path} has no partner in {lr_dir}: expected {path.stem}.png there")
        partners.append(lr)
    extra = sorted(set(there) - set(partners))
    if extra:
        more = f" (nor have {len(extra) - 1} more)" if len(extra) > 1 else ""
        raise ValueError(
            f"{extra[0]} has no partner in {hr_files[0].parent}{more}: expected one LR file for "
            "each HR file; remove it or add its HR file"
        )
    return partners


def load_pair(pair: ImagePair, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
    """LR [1,3,h,w] and HR [1,3,s*h,s*w], float32 in [0,1].

    HR is cropped at the top left to s times LR. Without an LR file, HR is cropped to a multiple of
    the scale first and LR is its MATLAB bicubic reduction, rounded to 8 bit.
    Raises ValueError when HR is smaller than s times LR.
    """
    check_scale(scale)
    hr = read_image(pair.hr)
    if pair.lr is None:
        hr = crop_to_multiple(hr, scale, pair.hr)
        lr = imresize(hr, 1 / scale)
    else:
        lr = read_image(pair.lr)
    height, width = lr.shape[0] * scale, lr.shape[1] * scale
    if hr.shape[0] < height or hr.shape[1] < width:
        raise ValueError(
            f"{pair.hr} is {hr.shape[1]}x{hr.shape[0]}, smaller than {scale} times {pair.lr} "
            f"({lr.shape[1]}x{lr.shape[0]}): these two do not belong together at scale {scale}"
        )
    return to_tensor(lr), to_tensor(hr[:height, :width])


def crop_to_multiple(image: np.ndarray, scale: int, name: str | Path = "image") -> np.ndarray:
    """`image` [H,W,C] cropped at the top left so that the scale divides both sides."""
    height, width = image.shape[0] // scale * scale, image.shape[1] // scale * scale
    if height == 0 or width == 0:
        raise ValueError(
            f"{name} is {image.shape[1]}x{image.shape[0]}: too small for scale {scale}"
        )
    return image[:height, :width]
