"""Where data sets keep their images: folders named as their authors and BasicSR do."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Names of folders below a root; upper and lower case count as the same.

    `hr`: has the HR images; `{n}` stands for any number, the largest first. `lr`: may have their LR
    images at scale `{s}`, the first that is there counts. `training`: a training set's folder.
    """

    hr: str
    lr: tuple[str, ...]
    training: bool = False


_BESIDE = ("LRx{s}", "LR_bicubic/X{s}", "LRbicx{s}")

# Of several HR folders in one root the first row counts. Whole photographs come before sub-images,
# which repeat their pixels; GTmod{n} before original: published LR images are made of the former.
LAYOUTS = (
    Layout("HR", _BESIDE),
    Layout("DIV2K_train_HR", ("DIV2K_train_LR_bicubic/X{s}", *_BESIDE), training=True),
    Layout("DIV2K_train_HR_sub", ("DIV2K_train_LR_bicubic/X{s}_sub",), training=True),
    Layout("Flickr2K_HR", ("Flickr2K_LR_bicubic/X{s}", *_BESIDE), training=True),
    Layout("Flickr2K_HR_sub", ("Flickr2K_LR_bicubic/X{s}_sub",), training=True),
    Layout("DIV2K_valid_HR", ("DIV2K_valid_LR_bicubic/X{s}", *_BESIDE)),
    Layout("GTmod{n}", _BESIDE),
    Layout("original", _BESIDE),
    Layout("GT", _BESIDE),
)


def find_folders(
    root: str | Path, scale: int, *, training: bool = False
) -> tuple[Path, Path | None]:
    """The folder of HR images that belongs to `root`, and that of their LR images or None.

    The first row of `LAYOUTS` whose HR folder exists; for training the rows of training sets come
    before the others, else after them. A root without any such folder holds the images itself, and
    no LR images belong to it.

    Raises FileNotFoundError when `root` is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"image folder not found: {root} (expected a folder of images)")
    for layout in sorted(LAYOUTS, key=lambda row: row.training != training):
        hr = _subfolder(root, layout.hr)
        if hr is not None:
            candidates = (_nested(root, name.replace("{s}", str(scale))) for name in layout.lr)
            return hr, next((lr for lr in candidates if lr is not None), None)
    return root, None


def _nested(root: Path, names: str) -> Path | None:
    folder: Path | None = root
    for name in names.split("/"):
        folder = None if folder is None else _subfolder(folder, name)
    return folder


def _subfolder(folder: Path, name: str) -> Path | None:
    """The sub-folder called `name`, exactly so if it is there, else in any case."""
    pattern = re.compile(re.escape(name).replace(r"\{n\}", r"(?P<n>\d+)"), re.IGNORECASE)
    best: tuple[bool, int, str] | None = None
    for entry in os.listdir(folder):
        match = pattern.fullmatch(entry)
        if match and (folder / entry).is_dir():
            rank = (entry == name, int(match.groupdict().get("n", 0)), entry)
            best = rank if best is None else max(best, rank)
    return None if best is None else folder / best[2]
